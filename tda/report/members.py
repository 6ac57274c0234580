"""What the members say of each example: every seed's loss and prediction, and how strongly an example pulls on itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tda.data.splits import Split
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.objectives import Objective
from tda.statistics.extremes import majority
from tda.system.workers import in_order
from tda.training.evaluation import evaluate
from tda.training.members import Member, built, load_member
from tda.training.study import Study

_MOST_GRADIENTS = {"cpu": 5e8, "cuda": 5e10}
"""Examples times the model's parameters, frozen ones too, up to which every seed's training gradients are taken."""


@dataclass(frozen=True)
class Opinions:
    """Of each seed's last checkpoint on a split.

    losses: (S, n) in nats; right: (S, n) in [0, 1], whether the prediction is the label, or the share of its tokens that are
    foretold; predicted: labels (S, n), None where an example has one for each token; wrong: which examples (n,) bool are so
    by what most seeds predict, or of which less than half of the tokens are foretold on average.
    """

    losses: np.ndarray
    right: np.ndarray
    predicted: np.ndarray | None
    wrong: np.ndarray


@dataclass(frozen=True)
class MembersSay:
    """Opinions on both splits, the test accuracies (S,) of the members, and self-influence (S, n_train) or None.

    Self-influence is the squared norm of the gradient of the example's loss: its Grad-Dot score for itself.
    """

    train: Opinions
    test: Opinions
    self_influence: np.ndarray | None


def members_say(study: Study, seed_ids: Sequence[int]) -> MembersSay:
    """Ask the last checkpoint of each of these seeds."""
    members = built([load_member(study, seed_id, study.plan.kept_epochs[-1]) for seed_id in seed_ids])
    splits = [members[0].study.inputs(split) for split in (study.train, study.test)]
    # A frozen weight costs a gradient its two passes all the same.
    size = len(study.train) * sum(part.numel() for part in members[0].model.parameters())
    with_gradients = size <= _MOST_GRADIENTS["cuda" if study.device.type == "cuda" else "cpu"]

    def ask(number: int) -> tuple:
        member = members[number]
        found = [_opinion(member, split) for split in splits]
        return *found, _squared_norms(member, splits[0]) if with_gradients else None

    # On a CPU members are evaluated beside each other, each with one thread, as they are scored.
    numbers = range(len(members))
    answers = list(map(ask, numbers) if study.device.type == "cuda" else in_order(ask, len(members)))
    objective = study.task.objective
    train, test = (
        _stacked(objective, [answer[part] for answer in answers], split.labels.cpu()) for part, split in enumerate(splits)
    )
    return MembersSay(train, test, np.stack([answer[2] for answer in answers]) if with_gradients else None)


def _opinion(member: Member, split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    evaluation = evaluate(member.model, member.objective, split)
    right = member.objective.correct(evaluation.predictions, split.labels.cpu())
    return evaluation.losses.double().numpy(), right.numpy(), evaluation.predictions.numpy()


def _stacked(objective: Objective, opinions: list[tuple], labels: torch.Tensor) -> Opinions:
    losses, right, predicted = (np.stack(parts) for parts in zip(*opinions, strict=True))
    if predicted.ndim > 2:
        return Opinions(losses, right, None, right.mean(axis=0) < 0.5)
    return Opinions(losses, right, predicted, objective.correct(torch.from_numpy(majority(predicted)), labels).numpy() < 1)


def _squared_norms(member: Member, train: Split) -> np.ndarray:
    plan = plan_gradients(member.model, train.inputs)
    rows = plan.streamed(train.inputs, train.labels, member.objective.loss, block_size=64)
    return torch.cat([block.squared_norms().cpu() for block in rows]).double().numpy()
