"""Added training step (ATS): how one more step on an example alone changes the test losses."""

import torch

from tda.data.splits import Split
from tda.methods.registry import Attribution, of_settings, per_member, register
from tda.models.model_state import ModelState
from tda.system.errors import UserError
from tda.training.evaluation import evaluate
from tda.training.many_models import train_many
from tda.training.members import Member
from tda.training.runs import Run


def _refuse(optimizer_state: str) -> None:
    """Raise UserError for a setting that means nothing."""
    if optimizer_state not in ("checkpoint", "fresh"):
        raise UserError(f"unknown optimizer_state {optimizer_state}; known ones are checkpoint and fresh")


@register(
    "ats",
    "ATS",
    "Nguyen, Seo and Oh 2023, section 2",
    check=of_settings(_refuse),
    optimizer_state="checkpoint",
)
@per_member
def added_training_step(member: Member, train: Split, test: Split, optimizer_state: str) -> Attribution:
    """L(test, checkpoint) - L(test, after one step of the plan's optimizer on the example alone), of the scored examples.

    optimizer_state: "checkpoint" continues with the moments that the checkpoint holds; "fresh" starts a new Adam, as
    the published code does. Raises UserError if it is neither.
    """
    _refuse(optimizer_state)
    start = member.state if optimizer_state == "checkpoint" else ModelState(member.state.parameters, member.state.buffers)
    scored = member.study.scored
    runs = [Run(start, [example], [1]) for example in scored[:, None]]
    base = evaluate(member.model, member.objective, test).losses
    scores = torch.empty(len(scored), len(test))
    for number, (snapshot,) in train_many(member.model, member.plan, member.objective, runs, train, evaluate_on=test):
        scores[number] = base - snapshot.evaluation.losses
    return Attribution(scores, positions=scored)
