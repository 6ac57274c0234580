"""TRAK along the training's trajectory: regressions on gradients at every kept epoch, averaged.

At the end of a training the residuals 1 - p of most examples are nearly 0, so that TRAK ranks by the few that are still being
learned. Early checkpoints have the residuals that a retraining without an example would meet. A checkpoint's term is
ridge (k^T (K + ridge)^-1) Q = k^T (I + K / ridge)^-1 Q: the gradient inner products of TracIn, damped where the rest of the
training would have made up for the example; 1 / ridge plays the part of the remaining training time.
"""

from collections.abc import Callable

from tda.data.splits import Split
from tda.methods.influence import influence
from tda.methods.registry import Attribution, load_method, one_after_another, register
from tda.methods.trak import SMALLEST_FACTOR, surprise_of, trak
from tda.methods.trak_kernels import trak_kernels
from tda.training.earlier_checkpoints import check_early_checkpoints, checkpoint_of, epochs_before
from tda.training.members import Member

Term = Callable[[Member], Attribution]


_NEEDS = "checkpoints of early epochs (--early_epochs of the training script)"


@register(
    "trak_trajectory",
    "TRAK (trajectory)",
    "after Park et al. 2023 and Pruthi et al. 2020",
    check=check_early_checkpoints,
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
    check=check_early_checkpoints,
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
    check=check_early_checkpoints,
    needs=_NEEDS,
    early_epochs="",
    matrix="gauss_newton",
    damping=0.012,
)
@one_after_another
def if_trajectory(member: Member, train: Split, test: Split, early_epochs: str, matrix: str, damping: float) -> Attribution:
    """Mean over the same checkpoints of the influence on the loss divided by 1 - p of the test example.

    Of a classifier that is the influence on the margin; of texts and pairs 1 - p is the mean over their tokens or sides. matrix
    and damping are those of `if`. Raises UserError as trak_trajectory and influence do.
    """

    def term(checkpoint: Member) -> Attribution:
        settings = load_method("if").settings | {"matrix": matrix, "damping": damping}
        (found,) = influence([checkpoint], train, test, settings)
        slopes = surprise_of(checkpoint, test).clamp(min=SMALLEST_FACTOR)
        return Attribution(found.scores.double() / slopes, found.report)

    return _mean_over_epochs(member, early_epochs, term)


def _mean_over_epochs(member: Member, early_epochs: str, term: Term) -> Attribution:
    """Mean of the checkpoints' terms; the report holds their epochs and reports."""
    epochs = epochs_before(member.study, early_epochs, member.epoch)
    total, reports = 0.0, []
    for epoch in [*epochs, member.epoch]:
        found = term(checkpoint_of(member, epoch))
        total = total + found.scores.double().cpu()
        reports.append({key: value for key, value in found.report.items() if key != "train_factor"})
    return Attribution(total / len(reports), {"epochs": [*epochs, member.epoch], "terms": reports})
