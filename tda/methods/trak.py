"""TRAK without projection: regression on the gradients of the margin, exact in its dual form (Park et al. 2023).

With f = log(p / (1 - p)) of the label, phi its gradient, Phi the training examples' phi as rows, and Q = 1 - p of the training
examples, TRAK's score is phi(test)^T (Phi^T Phi + ridge)^-1 Phi^T Q, which equals k^T (K + ridge)^-1 Q with K = Phi Phi^T and
k = Phi phi(test): n_train x n_train algebra on a gradient kernel, nothing random, nothing rescaled.

The score of an ensemble is the mean of Q times the mean of the rest, not the mean of the scores. A score file's report keeps
Q, as "train_factor", so that ensemble_scores.py can take the two means.
"""

from torch import Tensor

from tda.data.splits import Split
from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.gradient_plan import plan_gradients
from tda.methods.registry import Attribution, of_settings, per_member, register
from tda.training.evaluation import of_logits
from tda.training.kernel_in_blocks import BlockedKernel, kernel_fits
from tda.training.members import Member
from tda.trak.regression import checked_ridge, require_not_negative, solve_with_ridge

# Keeps the rest recoverable from a float32 score where the model is sure beyond all measure.
SMALLEST_FACTOR = 1e-30


def _refuse(ridge: float | None) -> None:
    require_not_negative(ridge)


@register("trak", "TRAK", "Park et al. 2023, without projection", check=of_settings(_refuse), ridge=None)
@per_member
def trak(member: Member, train: Split, test: Split, ridge: float | None) -> Attribution:
    """How much each training example raises each test example's margin, with the exact gradients of one member.

    ridge: added to the kernel's diagonal; by default the mean of that diagonal. A kernel that is too large for the study's
    memory budget goes to disk. Raises UserError if the ridge is negative, or too small for the kernel to be inverted, or the
    budget is too small.
    """
    if not kernel_fits(len(train), len(test), member.study.memory_budget):
        plan = plan_gradients(member.model, train.inputs, None, len(train), len(train))
        blocked = BlockedKernel(member, "trak_margins", plan, train, test, member.objective.margin)
        rest, chosen, residual = blocked.solve(lambda diagonal: checked_ridge(ridge, diagonal))
        return regression_scores(member, train, rest, {"ridge": chosen, "largest_relative_residual": residual})
    left, right = (train.inputs, train.labels), (test.inputs, test.labels)
    kernel = gradient_kernel(member.model, left, right, quantity=member.objective.margin, left_gram=True)
    gram, cross = kernel.left_gram.double(), kernel.cross.double()
    chosen = checked_ridge(ridge, gram.diagonal())
    rest, residual = solve_with_ridge((gram + gram.T) / 2, cross, chosen)
    return regression_scores(member, train, rest, {"ridge": chosen, "largest_relative_residual": residual})


def regression_scores(member: Member, train: Split, rest: Tensor, report: dict) -> Attribution:
    """Q times the rest (n_train, n_test); Q is kept in the report as "train_factor"."""
    factor = surprise_of(member, train).clamp(min=SMALLEST_FACTOR)
    return Attribution(factor[:, None] * rest, report | {"train_factor": factor.tolist()})


def surprise_of(member: Member, split: Split) -> Tensor:
    """1 - p of each example's label (n,) float64."""
    return of_logits(member.model, split, member.objective.surprise)
