"""The Gauss-Newton matrix by its kernel: exact algebra where examples times classes are fewer than parameters.

With B the gradients of an objective's curvature roots, a row for each training example and root, the damped matrix is
B^T B / n + damping. What it does to gradients follows from the kernel B B^T alone (Woodbury). Everything here is float64: the
inverse magnifies rounding by up to its largest eigenvalue over the damping. B is held where it fits HELD_BYTES; where it does
not, it is computed a part at a time, anew for each part of the kernel.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tda.curvature import gauss_newton_rows
from tda.curvature.products import flatten, unflatten
from tda.data.splits import Split
from tda.gradients.gradient_kernel import Examples, examples_at_once, gradient_kernel
from tda.gradients.gradient_plan import GradientPlan, plan_gradients
from tda.gradients.gradient_rows import GradientRows
from tda.gradients.objectives import Objective
from tda.gradients.quantities import Quantity
from tda.system.errors import UserError

HELD_BYTES = 2**31
"""Memory of B's rows up to which they are held at once."""


@dataclass(frozen=True)
class DualGaussNewton:
    """A damped Gauss-Newton matrix.

    model: a copy in float64; train: the examples in float64; plan: of its gradients; roots: of the objective; rows: B, or the
    part of it that was asked for, None where it is not held; system: B B^T / n + damping; factor: its Cholesky factor; kept:
    share of the trace of B B^T that the rows hold; held_bytes: of rows of B that are held at once.
    """

    model: nn.Module
    train: Split
    plan: GradientPlan
    roots: Quantity
    rows: GradientRows | None
    system: Tensor
    factor: Tensor
    damping: float
    kept: float
    held_bytes: int

    def solve(self, right_sides: Tensor) -> tuple[Tensor, float]:
        """(B B^T / n + damping)^-1 times columns (rows, k) float64, and the largest relative residual."""
        solved = torch.cholesky_solve(right_sides, self.factor)
        sizes = right_sides.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
        return solved, float(((self.system @ solved - right_sides).norm(dim=0) / sizes).max())

    def times(self, vectors: dict[str, Tensor]) -> Tensor:
        """B times vectors given as parameter name -> (k, *shape): (k, rows)."""
        return torch.cat([rows.times(vectors) for rows in self._blocks()], dim=1)

    def combined(self, weights: Tensor) -> dict[str, Tensor]:
        """B^T times weights (k, rows): parameter name -> (k, *shape)."""
        return gauss_newton_rows.combined(self._blocks, weights)

    def cross(self, split: Split, quantity: Quantity) -> Tensor:
        """B times the gradients of a quantity of other examples in float64: (rows, other rows); rows are not held."""
        right = (split.inputs, split.labels)
        parts = _parts(self.plan, self.train, self.roots, self.held_bytes)
        return torch.cat([_kernel(self.plan, part, right, self.roots, quantity, self.held_bytes) for part in parts])

    def _blocks(self) -> Iterator[GradientRows]:
        if self.rows is not None:
            return iter([self.rows])
        example_bytes = _example_bytes(self.plan, self.train, self.roots)
        size = examples_at_once(self.plan, self.train.inputs, example_bytes, min(self.held_bytes, 2**30))
        return self.plan.streamed(self.train.inputs, self.train.labels, self.roots, size)

    def inverse(self, vectors: Tensor) -> tuple[Tensor, float]:
        """(B^T B / n + damping)^-1 times vectors (k, p), in their precision, and the largest relative residual.

        The formula is a difference of large numbers.
        """
        right_sides, num_train = vectors.double(), len(self.train)
        weights = torch.cholesky_solve(self.times(unflatten(right_sides, self.model)).T / num_train, self.factor).T
        solved = (right_sides - flatten(self.combined(weights))) / self.damping
        back = flatten(self.combined(self.times(unflatten(solved, self.model)))) / num_train + self.damping * solved
        sizes = right_sides.norm(dim=1).clamp(min=torch.finfo(torch.float64).tiny)
        return solved.to(vectors.dtype), float(((back - right_sides).norm(dim=1) / sizes).max())


def dual_gauss_newton(
    model: nn.Module,
    objective: Objective,
    train: Split,
    damping: float,
    most_rows: int | None = None,
    held_bytes: int | None = None,
) -> DualGaussNewton:
    """The damped Gauss-Newton matrix of the mean training loss; raises UserError unless damping is positive.

    most_rows: keep only so many rows of B, the longest, whatever their size, of which there is then one for each logit. A
    converged network's curvature is that of the few examples of which it is not yet sure. held_bytes: of B's rows up to which
    all are held at once, by default HELD_BYTES.
    """
    require_positive(damping)
    held_bytes = held_bytes or HELD_BYTES
    model, train, plan = in_double_precision(model, train)
    roots, kept = objective.curvature_roots if most_rows is None else objective.logit_roots, 1.0
    if most_rows is None and len(train) * _example_bytes(plan, train, roots) > held_bytes:
        gram, rows = _kernel_in_parts(plan, train, roots, held_bytes), None
        factored = _factored(gram, len(train), damping)
        return DualGaussNewton(model, train, plan, roots, rows, *factored, damping, kept, held_bytes)
    rows = plan.rows(train.inputs, train.labels, roots)
    if most_rows is not None and most_rows < rows.count:
        sizes = rows.squared_norms()
        longest = sizes.argsort(descending=True, stable=True)[:most_rows]
        rows, kept = rows.chosen(longest), float(sizes[longest].sum() / sizes.sum())
    factored = _factored(rows.gram(), len(train), damping)
    return DualGaussNewton(model, train, plan, roots, rows, *factored, damping, kept, held_bytes)


def dual_fits(num_rows: int, num_train: int, budget: int | None) -> bool:
    """Whether a budget of bytes has room for B B^T, its symmetric form, the system and its factor, and for n_train solutions.

    A quarter is for rows of B.
    """
    return budget is None or 48 * num_rows**2 + 24 * num_rows * num_train <= 3 * budget // 4


def in_double_precision(model: nn.Module, train: Split) -> tuple[nn.Module, Split, GradientPlan]:
    """A copy of the model in float64, the training examples in it, and a plan for the kernel of their gradients."""
    model, train = copy.deepcopy(model).double(), train.cast(torch.float64)
    return model, train, plan_gradients(model, train.inputs, None, len(train), len(train))


def require_positive(damping: float) -> None:
    """Raise UserError unless a damping is positive."""
    if damping <= 0:
        raise UserError(f"the damping of the influence function must be positive, not {damping}")


def _factored(gram: Tensor, num_train: int, damping: float) -> tuple[Tensor, Tensor]:
    """B B^T / n + damping and its Cholesky factor."""
    system = (gram + gram.T) / (2 * num_train) + damping * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return system, torch.linalg.cholesky(system)


def _example_bytes(plan: GradientPlan, train: Split, roots: Quantity) -> int:
    return plan.example_bytes(train.inputs, train.labels, roots)


def _parts(plan: GradientPlan, train: Split, roots: Quantity, held_bytes: int) -> list[Split]:
    """The examples in parts whose rows fit held_bytes."""
    at_once = max(1, held_bytes // _example_bytes(plan, train, roots))
    return [train[start : start + at_once] for start in range(0, len(train), at_once)]


def _kernel_in_parts(plan: GradientPlan, train: Split, roots: Quantity, held_bytes: int) -> Tensor:
    """B B^T, each part's rows with those of the same and of later examples."""
    strips, start = [], 0
    for part in _parts(plan, train, roots, held_bytes):
        rest = train[start:]
        strips.append(_kernel(plan, part, (rest.inputs, rest.labels), roots, roots, held_bytes))
        start += len(part)
    count = strips[0].shape[1]
    gram = strips[0].new_zeros(count, count)
    for strip in strips:
        first = count - strip.shape[1]
        gram[first : first + len(strip), first:] = strip
        gram[first:, first : first + len(strip)] = strip.T
    return gram


def _kernel(plan: GradientPlan, part: Split, right: Examples, roots: Quantity, quantity: Quantity, held_bytes: int) -> Tensor:
    """Inner products of a part's rows, all held, with the gradients of a quantity of examples that stream by."""
    options = {"left_quantity": roots, "memory_budget": held_bytes, "plan": plan}
    return gradient_kernel(plan.model, (part.inputs, part.labels), right, quantity, **options).cross
