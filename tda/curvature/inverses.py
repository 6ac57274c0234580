"""(curvature + damping)^-1 applied to many gradients at once, whatever the solver.

An `Inverse` takes vectors (k, p), p the trained parameters end to end, and returns (k, p) and the largest relative residual.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tda.curvature.minres import minres
from tda.curvature.products import gauss_newton_products, hessian_products, products_in_parts, unflatten
from tda.curvature.symmetry import require_symmetric_hessian
from tda.data.splits import Split
from tda.gradients.activation_memory import activation_bytes, fitting
from tda.gradients.gradient_kernel import examples_at_once
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.gradient_rows import GradientRows
from tda.gradients.objectives import Objective
from tda.gradients.quantities import Quantity
from tda.gradients.second_moment import second_moment
from tda.system.errors import UserError

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


def iterative_inverse(
    model: nn.Module, objective: Objective, train: Split, solver: Solver, budget: int | None = None
) -> Inverse:
    """Solve (C + damping) x = v by MINRES for all rows at once, C the Hessian or the Gauss-Newton matrix of the train loss.

    The second value is the largest relative residual. budget: bytes of passes; without it one is over all examples. Raises
    UserError if `solver.matrix` is unknown, or its second derivatives are wrong.
    """
    known = {"hessian": hessian_products, "gauss_newton": gauss_newton_products}
    if solver.matrix not in known:
        raise UserError(f"unknown curvature matrix {solver.matrix}; known ones are {', '.join(sorted(known))}")
    if solver.matrix == "hessian":
        require_symmetric_hessian(model, train)
    if budget is None:
        products = known[solver.matrix](model, objective, train)
    else:
        products = products_in_parts(known[solver.matrix], model, objective, train, budget)

    def apply(vectors: Tensor) -> tuple[Tensor, float]:
        solution = minres(lambda v: products(v) + solver.damping * v, vectors, solver.tolerance, solver.max_iterations)
        return solution.x, float(solution.residuals.max())

    return apply


def primal_inverse(model: nn.Module, objective: Objective, train: Split, damping: float, budget: int | None = None) -> Inverse:
    """(G + damping)^-1, G the Gauss-Newton matrix of the mean train loss, by its (p, p) entries in the model's precision.

    budget: bytes of gradients at once; without it all examples' are.
    """
    plan, roots = plan_gradients(model, train.inputs, None, len(train), len(train)), objective.curvature_roots
    if budget is None:
        matrix = second_moment(plan.rows(train.inputs, train.labels, roots))
    else:
        example_bytes = plan.example_bytes(train.inputs, train.labels, roots)
        size = examples_at_once(plan, train.inputs, example_bytes, budget)
        matrix = functools.reduce(
            torch.Tensor.add_, (second_moment(rows) for rows in plan.streamed(train.inputs, train.labels, roots, size))
        )
    matrix /= len(train)
    matrix.diagonal().add_(damping)
    factor = torch.linalg.cholesky(matrix)

    def apply(vectors: Tensor) -> tuple[Tensor, float]:
        solved = torch.cholesky_solve(vectors.T, factor).T
        sizes = vectors.norm(dim=1).clamp(min=torch.finfo(vectors.dtype).tiny)
        return solved, float(((solved @ matrix - vectors).norm(dim=1) / sizes).max())

    return apply


def blocks_of_gradients(model: nn.Module, quantity: Quantity, split: Split, most: int | None = None) -> Iterator[GradientRows]:
    """The gradients of a quantity of a split's examples, such as their losses, block after block of `most` at most."""
    plan = plan_gradients(model, split.inputs, None, len(split), len(split))
    block = fitting(activation_bytes(model, split.inputs), min(_BLOCK, most or _BLOCK))
    return plan.streamed(split.inputs, split.labels, quantity, block)


def bilinear_scores(
    model: nn.Module,
    objective: Objective,
    train: Split,
    test: Split,
    inverse: Inverse,
    transposed: Inverse,
    at_once: int | None = None,
) -> tuple[Tensor, float]:
    """g_train^T M g_test (n_train, n_test) and the largest residual, by solving on the smaller side, so many at once.

    `inverse` applies M, `transposed` its transpose, which is what the training side needs.
    """
    by_train = len(train) <= len(test)
    few, many, apply = (train, test, transposed) if by_train else (test, train, inverse)
    products, largest = [], 0.0
    for rows in blocks_of_gradients(model, objective.loss, few, at_once):
        solved, residual = apply(rows.dense())
        largest = max(largest, residual)
        products.append(times_vectors(model, objective.loss, many, unflatten(solved, model), at_once))
    scores = torch.cat(products)
    return (scores if by_train else scores.T), largest


def times_vectors(
    model: nn.Module, quantity: Quantity, split: Split, vectors: dict[str, Tensor], at_once: int | None = None
) -> Tensor:
    """Inner products (k, n) of parameter-space vectors (k, *shape) with the gradients of a quantity of a split's examples."""
    return torch.cat([rows.times(vectors) for rows in blocks_of_gradients(model, quantity, split, at_once)], dim=1)
