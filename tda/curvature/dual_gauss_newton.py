"""The Gauss-Newton matrix by its kernel: exact algebra where examples times logits are fewer than parameters.

With B the gradients of an objective's curvature roots, a row for each training example and root, the damped matrix is
B^T B / n + damping. What it does to gradients follows from the kernel B B^T alone (Woodbury). Everything here is float64: the
inverse magnifies rounding by up to its largest eigenvalue over the damping.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tda.curvature.products import flatten, unflatten
from tda.data.splits import Split
from tda.gradients.gradient_plan import GradientPlan, plan_gradients
from tda.gradients.gradient_rows import GradientRows
from tda.gradients.objectives import Objective
from tda.system.errors import UserError


@dataclass(frozen=True)
class DualGaussNewton:
    """A damped Gauss-Newton matrix.

    model: a copy in float64; train: the examples in float64; plan: of its gradients; rows: B, or the part of it that was asked
    for; system: B B^T / n + damping; factor: its Cholesky factor; kept: share of the trace of B B^T that the rows hold.
    """

    model: nn.Module
    train: Split
    plan: GradientPlan
    rows: GradientRows
    system: Tensor
    factor: Tensor
    damping: float
    kept: float

    def solve(self, right_sides: Tensor) -> tuple[Tensor, float]:
        """(B B^T / n + damping)^-1 times columns (rows, k) float64, and the largest relative residual."""
        solved = torch.cholesky_solve(right_sides, self.factor)
        sizes = right_sides.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
        return solved, float(((self.system @ solved - right_sides).norm(dim=0) / sizes).max())

    def inverse(self, vectors: Tensor) -> tuple[Tensor, float]:
        """(B^T B / n + damping)^-1 times vectors (k, p), in their precision, and the largest relative residual.

        The formula is a difference of large numbers.
        """
        right_sides, num_train = vectors.double(), len(self.train)
        weights = torch.cholesky_solve(self.rows.times(unflatten(right_sides, self.model)).T / num_train, self.factor).T
        solved = (right_sides - flatten(self.rows.combined(weights))) / self.damping
        back = flatten(self.rows.combined(self.rows.times(unflatten(solved, self.model)))) / num_train + self.damping * solved
        sizes = right_sides.norm(dim=1).clamp(min=torch.finfo(torch.float64).tiny)
        return solved.to(vectors.dtype), float(((back - right_sides).norm(dim=1) / sizes).max())


def dual_gauss_newton(
    model: nn.Module, objective: Objective, train: Split, damping: float, most_rows: int | None = None
) -> DualGaussNewton:
    """The damped Gauss-Newton matrix of the mean training loss; raises UserError unless damping is positive.

    most_rows: keep only so many rows of B, the longest. A converged network's curvature is that of the few examples of which it
    is not yet sure.
    """
    require_positive(damping)
    model, train = copy.deepcopy(model).double(), train.cast(torch.float64)
    plan = plan_gradients(model, train.inputs, None, len(train), len(train))
    rows, kept = plan.rows(train.inputs, train.labels, objective.curvature_roots), 1.0
    if most_rows is not None and most_rows < rows.count:
        sizes = rows.squared_norms()
        longest = sizes.argsort(descending=True, stable=True)[:most_rows]
        rows, kept = rows.chosen(longest), float(sizes[longest].sum() / sizes.sum())
    gram = rows.gram()
    system = (gram + gram.T) / (2 * len(train)) + damping * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return DualGaussNewton(model, train, plan, rows, system, torch.linalg.cholesky(system), damping, kept)


def require_positive(damping: float) -> None:
    """Raise UserError unless a damping is positive."""
    if damping <= 0:
        raise UserError(f"the damping of the influence function must be positive, not {damping}")
