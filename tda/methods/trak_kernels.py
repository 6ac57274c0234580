"""TRAK's regression with examples weighted by curvature, on the margin's gradients and on those of all logits.

A training example pulls its own output back with a force that grows with the loss's curvature there, h = p (1 - p) of the
label: the regression's penalty is ridge / w, w = h / mean h. w = 1 is TRAK; the Gauss-Newton matrix has w itself. Curvature
falls during the training and differs after a retraining, and its square root, in between, predicts retraining better than
either (docs/retraining-yardsticks.md).

Margins: with K the kernel of margin gradients, Q = 1 - p, a score is ridge Q (K W + ridge)^-1 k, entry by entry.
All logits: with J the Jacobian of all logits, it is w_j^T J_j (J^T J + ridge)^-1 J_i^T r_i, r_i = onehot - p, w_j the
derivative of the margin by the logits. J J^T has n_train * C rows. Were the network wide, its logits would share one kernel
and not interact; with T the mean of the single logits' kernels that leaves (r_i . w_j) (T W + ridge)^-1 t, entry by entry.
The two kinds of scores err differently, and their sum predicts better than either.
"""

from dataclasses import dataclass

from torch import Tensor

from tda.data.splits import Split
from tda.gradients.gradient_kernel import examples_at_once, gradient_kernel
from tda.gradients.gradient_plan import GradientPlan, plan_gradients
from tda.gradients.gradient_rows import GradientRows
from tda.gradients.quantities import all_logits
from tda.methods.registry import Attribution, of_settings, per_member, register
from tda.system.errors import UserError
from tda.training.evaluation import logits_of_split
from tda.training.kernel_in_blocks import BlockedKernel, kernel_fits
from tda.training.members import Member
from tda.trak.regression import solve_with_ridge

# Of the mean; keeps the weight of an example whose label the model is sure of above rounding.
_SMALLEST_WEIGHT = 1e-6


def require_usable_ridge(ridge_factor: float) -> None:
    """Raise UserError unless a ridge is positive."""
    if ridge_factor <= 0:
        raise UserError(f"the ridge factor must be positive, not {ridge_factor}")


# The term of one epoch in kernel_trajectory, for comparison: a study's tables have TRAK's own.
@register(
    "trak_kernels",
    "TRAK (both kernels)",
    "after Park et al. 2023",
    check=of_settings(require_usable_ridge),
    in_all=False,
    ridge_factor=1.0,
    curvature_power=0.5,
)
@per_member
def trak_kernels(member: Member, train: Split, test: Split, ridge_factor: float, curvature_power: float) -> Attribution:
    """How much each training example raises each test example's margin, the sum by both kernels, each times its ridge.

    ridge_factor: times the mean of a kernel's diagonal, its ridge; curvature_power: of the weights, 0 for none, 1 for those of
    the Gauss-Newton matrix. Raises UserError if ridge_factor is not positive.
    """
    require_usable_ridge(ridge_factor)
    objective = member.objective
    logits, test_logits = (logits_of_split(member.model, split) for split in (train, test))
    outer = objective.residuals(logits, train.labels) @ objective.margin_weights(test_logits, test.labels).T
    at_label = objective.label_residuals(logits, train.labels)
    of_margins = weights(at_label * (1 - at_label), curvature_power)
    of_logits = weights(objective.curvature_trace(logits, train.labels), curvature_power)
    num_logits = logits.flatten(1).shape[1]
    fits = kernel_fits(len(train), len(test), member.study.memory_budget)
    regressions = _in_memory if fits else _in_blocks
    margins, joined = regressions(member, train, test, num_logits, ridge_factor, of_margins, of_logits)
    scores = margins.ridge * at_label[:, None] * margins.rest + joined.ridge * outer * joined.rest
    return Attribution(scores, {"margins": margins.report(), "logits": joined.report()})


@dataclass(frozen=True)
class Regression:
    """The rest of the scores by one kernel (n_train, n_test), its ridge, and the largest relative residual."""

    rest: Tensor
    ridge: float
    residual: float

    def report(self) -> dict[str, float]:
        """What a score file says of it."""
        return {"ridge": self.ridge, "largest_relative_residual": self.residual}


def _in_memory(
    member: Member, train: Split, test: Split, num_logits: int, ridge_factor: float, of_margins: Tensor, of_logits: Tensor
) -> tuple[Regression, Regression]:
    plan = plan_gradients(member.model, train.inputs, None, len(train), len(train))
    left, right = (train.inputs, train.labels), (test.inputs, test.labels)
    margins = gradient_kernel(member.model, left, right, quantity=member.objective.margin, left_gram=True, plan=plan)
    rows, test_rows = (_joined(plan, split) for split in (train, test))
    found = []
    for gram, cross, weight in (
        (margins.left_gram, margins.cross, of_margins),
        (rows.gram() / num_logits, rows.inner(test_rows) / num_logits, of_logits),
    ):
        ridge = ridge_factor * float(gram.diagonal().mean())
        rest, residual = weighted_regression(gram, cross, ridge, weight)
        found.append(Regression(rest, ridge, residual))
    return tuple(found)


def _in_blocks(
    member: Member, train: Split, test: Split, num_logits: int, ridge_factor: float, of_margins: Tensor, of_logits: Tensor
) -> tuple[Regression, Regression]:
    """The same where a kernel is too large for the memory budget."""
    plan = plan_gradients(member.model, train.inputs, None, len(train), len(train))
    shared = {"member": member, "plan": plan, "train": train, "test": test}
    found = []
    for kernel, weight in (
        (BlockedKernel(name="trak_kernels_margins", quantity=member.objective.margin, **shared), of_margins),
        (
            BlockedKernel(name="trak_kernels_logits", quantity=all_logits, joined=True, scale=1 / num_logits, **shared),
            of_logits,
        ),
    ):
        roots = weight.sqrt()
        rest, ridge, residual = kernel.solve(lambda diagonal: ridge_factor * float(diagonal.mean()), roots)
        found.append(Regression(rest / roots[:, None], ridge, residual))
    return tuple(found)


def weights(curvature: Tensor, power: float) -> Tensor:
    """(curvature / its mean)^power, of non-negative numbers (n,)."""
    return (curvature / curvature.mean()).clamp(min=_SMALLEST_WEIGHT) ** power


def weighted_regression(gram: Tensor, cross: Tensor, ridge: float, weights: Tensor) -> tuple[Tensor, float]:
    """(K W + ridge)^-1 k for K (n, n), k (n, m), W = diag(weights (n,)), and the largest relative residual.

    Solved in the symmetric form W^-1/2 (W^1/2 K W^1/2 + ridge)^-1 W^1/2.
    """
    roots = weights.sqrt()[:, None]
    solved, residual = solve_with_ridge(roots * ((gram + gram.T) / 2) * roots.T, roots * cross, ridge)
    return solved / roots, residual


def _joined(plan: GradientPlan, split: Split) -> GradientRows:
    size = plan.example_bytes(split.inputs, split.labels, all_logits)
    return plan.rows(split.inputs, split.labels, all_logits, examples_at_once(plan, split.inputs, size)).joined()
