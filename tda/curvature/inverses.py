"""(curvature + damping)^-1 applied to many gradients at once, whatever the solver.

An `Inverse` takes vectors (k, p), p the trained parameters end to end, and returns (k, p) and the largest relative residual.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tda.curvature.minres import minres
from tda.curvature.products import flatten, gauss_newton_products, hessian_products, unflatten
from tda.data.splits import Split
from tda.gradients.activation_memory import activation_bytes, fitting
from tda.gradients.gradient_kernel import gradient_rows
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.gradient_rows import GradientRows
from tda.gradients.quantities import cross_entropy_loss, curvature_roots
from tda.gradients.second_moment import second_moment
from tda.system.errors import UserError
from tda.training.members import Member

Inverse = Callable[[Tensor], tuple[Tensor, float]]

# Examples whose gradients are formed at once.
_BLOCK = 64


@dataclass(frozen=True)
class Solver:
    """Which curvature, how it is damped, and when the iteration stops (relative residual, or number of products)."""

    matrix: str
    damping: float
    tolerance: float
    max_iterations: int


def iterative_inverse(member: Member, train: Split, solver: Solver) -> Inverse:
    """Solve (C + damping) x = v by MINRES for all rows at once, C the Hessian or the Gauss-Newton matrix of the train loss.

    The second value is the largest relative residual. Raises UserError if `solver.matrix` is unknown.
    """
    known = {"hessian": hessian_products, "gauss_newton": gauss_newton_products}
    if solver.matrix not in known:
        raise UserError(f"unknown curvature matrix {solver.matrix}; known ones are {', '.join(sorted(known))}")
    products = known[solver.matrix](member.model, train.images, train.labels)

    def apply(vectors: Tensor) -> tuple[Tensor, float]:
        solution = minres(lambda v: products(v) + solver.damping * v, vectors, solver.tolerance, solver.max_iterations)
        return solution.x, float(solution.residuals.max())

    return apply


def dual_inverse(member: Member, train: Split, damping: float) -> Inverse:
    """(G + damping)^-1 for the Gauss-Newton matrix G = B^T B / n of the mean train loss, exact through B B^T (Woodbury).

    B has a row for each training example and logit; see quantities.curvature_roots. It computes in float64, for the formula
    is a difference of large numbers. Raises UserError unless damping is positive.
    """
    if damping <= 0:
        raise UserError(f"the damping of the influence function must be positive, not {damping}")
    model = copy.deepcopy(member.model).double()
    train, num_train = Split(train.images.double(), train.labels, train.indices), len(train)
    plan = plan_gradients(model, train.images, None, len(train), len(train))
    rows = gradient_rows(train.images, train.labels, curvature_roots, plan)
    gram = rows.gram()
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    factor = torch.linalg.cholesky((gram + gram.T) / 2 + num_train * damping * identity)

    def apply(vectors: Tensor) -> tuple[Tensor, float]:
        right_sides = vectors.double()
        weights = torch.cholesky_solve(rows.times(unflatten(right_sides, model)).T, factor).T
        solved = (right_sides - flatten(rows.combined(weights))) / damping
        back = flatten(rows.combined(rows.times(unflatten(solved, model)))) / num_train + damping * solved
        sizes = right_sides.norm(dim=1).clamp(min=torch.finfo(torch.float64).tiny)
        return solved.to(vectors.dtype), float(((back - right_sides).norm(dim=1) / sizes).max())

    return apply


def primal_inverse(member: Member, train: Split, damping: float) -> Inverse:
    """(G + damping)^-1, G the Gauss-Newton matrix of the mean train loss, by its (p, p) entries in the model's precision."""
    plan = plan_gradients(member.model, train.images, None, len(train), len(train))
    matrix = second_moment(gradient_rows(train.images, train.labels, curvature_roots, plan)) / len(train)
    matrix.diagonal().add_(damping)
    factor = torch.linalg.cholesky(matrix)

    def apply(vectors: Tensor) -> tuple[Tensor, float]:
        solved = torch.cholesky_solve(vectors.T, factor).T
        sizes = vectors.norm(dim=1).clamp(min=torch.finfo(vectors.dtype).tiny)
        return solved, float(((solved @ matrix - vectors).norm(dim=1) / sizes).max())

    return apply


def blocks_of_gradients(member: Member, split: Split) -> Iterator[tuple[Tensor, GradientRows]]:
    """Yield (positions, GradientRows of the losses) of a split, block after block."""
    plan = plan_gradients(member.model, split.images, None, len(split), len(split))
    block = fitting(activation_bytes(member.model, split.images), _BLOCK)
    for positions in torch.arange(len(split)).split(block):
        yield positions, gradient_rows(split.images[positions], split.labels[positions], cross_entropy_loss, plan)


def bilinear_scores(member: Member, train: Split, test: Split, inverse: Inverse, transposed: Inverse) -> tuple[Tensor, float]:
    """g_train^T M g_test (n_train, n_test) and the largest residual, by solving on the smaller side.

    `inverse` applies M, `transposed` its transpose, which is what the training side needs.
    """
    by_train = len(train) <= len(test)
    few, many, apply = (train, test, transposed) if by_train else (test, train, inverse)
    products, largest = [], 0.0
    for _, rows in blocks_of_gradients(member, few):
        solved, residual = apply(rows.dense())
        largest = max(largest, residual)
        vectors = unflatten(solved, member.model)
        products.append(torch.cat([other.times(vectors) for _, other in blocks_of_gradients(member, many)], dim=1))
    scores = torch.cat(products)
    return (scores if by_train else scores.T), largest
