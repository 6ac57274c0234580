"""TRAK along the training's trajectory: regressions on gradients at every kept epoch, averaged.

At the end of a training the residuals 1 - p of most examples are nearly 0, so that TRAK ranks by the few that are still being
learned. Early checkpoints have the residuals that a retraining without an example would meet. A checkpoint's term is
ridge (k^T (K + ridge)^-1) Q = k^T (I + K / ridge)^-1 Q: the gradient inner products of TracIn, damped where the rest of the
training would have made up for the example; 1 / ridge plays the part of the remaining training time.
"""

from collections.abc import Callable, Sequence

from tda.data.splits import Split
from tda.methods.influence import influence
from tda.methods.registry import Attribution, load_method, one_after_another, register
from tda.methods.trak import SMALLEST_FACTOR, surprise_of, trak
from tda.methods.trak_kernels import trak_kernels
from tda.models.training_plan import parse_epochs
from tda.system.errors import UserError
from tda.training.members import Member, load_member
from tda.training.study import Study

Term = Callable[[Member], Attribution]


_NEEDS = "checkpoints of early epochs (--early_epochs of the training script)"


def _early_epochs(study: Study, named: str, before: int) -> list[int]:
    """The named epochs before another, by default those that the training plan keeps; raises UserError if there are none."""
    epochs = [epoch for epoch in parse_epochs(named) or study.plan.early_epochs if epoch < before]
    if not epochs:
        raise UserError(
            f"no checkpoint of {study.experiment.name} before epoch {before} is named; train with --early_epochs, such as "
            f"1,2,5, and give the same epochs to the scoring script"
        )
    return epochs


def _check_checkpoints(study: Study, seed_ids: Sequence[int], settings: dict) -> None:
    for epoch in _early_epochs(study, settings["early_epochs"], study.plan.kept_epochs[0]):
        for seed_id in seed_ids:
            load_member(study, seed_id, epoch)


@register(
    "trak_trajectory",
    "TRAK (trajectory)",
    "after Park et al. 2023 and Pruthi et al. 2020",
    check=_check_checkpoints,
    needs=_NEEDS,
    early_epochs="",
)
@one_after_another
def trak_trajectory(member: Member, train: Split, test: Split, early_epochs: str) -> Attribution:
    """Mean over the member's checkpoint and earlier ones of ridge times TRAK's score, the ridge TRAK's own at each checkpoint.

    early_epochs: which earlier ones, such as "1,2,5"; by default those that the training plan keeps.
    Raises UserError if no earlier epoch is named, or if a checkpoint is missing.
    """

    def term(checkpoint: Member) -> Attribution:
        (found,) = trak([checkpoint], train, test, {"ridge": None})
        return Attribution(found.report["ridge"] * found.scores, found.report)

    return _mean_over_epochs(member, early_epochs, term)


@register(
    "kernel_trajectory",
    "Kernel trajectory",
    "after Park et al. 2023 and Pruthi et al. 2020",
    check=_check_checkpoints,
    needs=_NEEDS,
    early_epochs="",
    ridge_factor=1.0,
    curvature_power=0.5,
)
@one_after_another
def kernel_trajectory(
    member: Member, train: Split, test: Split, early_epochs: str, ridge_factor: float, curvature_power: float
) -> Attribution:
    """The same of trak_kernels: both kernels, examples weighted by curvature. Raises UserError as trak_trajectory does."""
    settings = {"ridge_factor": ridge_factor, "curvature_power": curvature_power}

    def term(checkpoint: Member) -> Attribution:
        (found,) = trak_kernels([checkpoint], train, test, settings)
        return found

    return _mean_over_epochs(member, early_epochs, term)


@register(
    "if_trajectory",
    "IF (trajectory)",
    "after Koh and Liang 2017 and Pruthi et al. 2020",
    check=_check_checkpoints,
    needs=_NEEDS,
    early_epochs="",
    matrix="gauss_newton",
    damping=0.012,
)
@one_after_another
def if_trajectory(member: Member, train: Split, test: Split, early_epochs: str, matrix: str, damping: float) -> Attribution:
    """Mean over the same checkpoints of the influence on the margin: that on the loss divided by 1 - p of the test example.

    matrix and damping are those of `if`. Raises UserError as trak_trajectory and influence do.
    """

    def term(checkpoint: Member) -> Attribution:
        settings = load_method("if").settings | {"matrix": matrix, "damping": damping}
        (found,) = influence([checkpoint], train, test, settings)
        slopes = surprise_of(checkpoint, test).clamp(min=SMALLEST_FACTOR)
        return Attribution(found.scores.double() / slopes, found.report)

    return _mean_over_epochs(member, early_epochs, term)


def _mean_over_epochs(member: Member, early_epochs: str, term: Term) -> Attribution:
    """Mean of the checkpoints' terms; the report holds their epochs and reports."""
    epochs = _early_epochs(member.study, early_epochs, member.epoch)
    total, reports = 0.0, []
    for epoch in [*epochs, member.epoch]:
        found = term(_checkpoint(member, epoch))
        total = total + found.scores.double().cpu()
        reports.append({key: value for key, value in found.report.items() if key != "train_factor"})
    return Attribution(total / len(reports), {"epochs": [*epochs, member.epoch], "terms": reports})


def _checkpoint(member: Member, epoch: int) -> Member:
    if epoch == member.epoch:
        return member
    return load_member(member.study, member.seed_id, epoch)
