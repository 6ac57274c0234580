"""TRAK along the training's trajectory: the margin kernel's regression at every kept epoch, averaged.

At the end of a training the residuals 1 - p of most examples are nearly 0, so that TRAK ranks by the few that are still being
learned. Early checkpoints have the residuals that a retraining without an example would meet. A checkpoint's term is
ridge (k^T (K + ridge)^-1) Q = k^T (I + K / ridge)^-1 Q: the gradient inner products of TracIn, damped where the rest of the
training would have made up for the example; 1 / ridge plays the part of the remaining training time.
"""

import torch

from tda.errors import UserError
from tda.members import Member, load_member
from tda.methods.registry import Attribution, one_after_another, register
from tda.methods.trak import trak
from tda.subsets import Split
from tda.training_plan import parse_epochs


@register("trak_trajectory", "TRAK (trajectory)", "after Park et al. 2023 and Pruthi et al. 2020", early_epochs="")
@one_after_another
def trak_trajectory(member: Member, train: Split, test: Split, early_epochs: str) -> Attribution:
    """Mean over the member's checkpoint and earlier ones of ridge times TRAK's score, the ridge TRAK's own at each checkpoint.

    early_epochs: which earlier ones, such as "1,2,5"; by default those that the training plan keeps.
    Raises UserError if no earlier epoch is named, or if a checkpoint is missing.
    """
    epochs = [epoch for epoch in parse_epochs(early_epochs) or member.plan.early_epochs if epoch < member.epoch]
    if not epochs:
        raise UserError(
            f"no checkpoint of {member.experiment.name} before epoch {member.epoch} is named; train with --early_epochs, such "
            f"as 1,2,5, and give the same epochs to the scoring script"
        )
    total, reports = torch.zeros(len(train), len(test), dtype=torch.float64), []
    for epoch in [*epochs, member.epoch]:
        (found,) = trak([_checkpoint(member, epoch)], train, test, {"ridge": None})
        total += found.report["ridge"] * found.scores.cpu()
        reports.append(found.report)
    report = {
        "epochs": [*epochs, member.epoch],
        "ridges": [one["ridge"] for one in reports],
        "largest_relative_residual": max(one["largest_relative_residual"] for one in reports),
    }
    return Attribution(total / len(reports), report)


def _checkpoint(member: Member, epoch: int) -> Member:
    if epoch == member.epoch:
        return member
    return load_member(member.experiment, member.seed_id, epoch, member.info["data"], member.device)
