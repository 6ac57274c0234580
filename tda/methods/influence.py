"""Influence functions with a solver that converges and reports its residual (Koh and Liang 2017).

g_train^T (C + damping)^-1 g_test, C the Gauss-Newton matrix of the mean training loss or its Hessian. The Gauss-Newton
matrix has rank at most n_train times one less than the classes, so that its inverse is exact algebra on a kernel of that
size (Woodbury), or on the matrix itself where the model has fewer parameters than that.

The default damping, 0.5, is a hundred times that of the published recursion: it predicts leave-one-out better on digits3 and on
mnist3 (benchmarks/influence_matrix.py), whose few training steps leave most directions unlearned.

Within a memory budget of the study the solver is the same, in parts: the kernel goes to disk where it has no room, MINRES takes
a few test gradients and training examples at a time. What cannot be cut is refused, with the budget that it needs.
"""

import torch
from torch import Tensor, nn

from tda.curvature.dual_gauss_newton import dual_fits, dual_gauss_newton, in_double_precision, require_positive
from tda.curvature.inverses import Solver, bilinear_scores, iterative_inverse, primal_inverse, times_vectors
from tda.data.splits import Split
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.objectives import Objective
from tda.methods.registry import Attribution, of_settings, one_after_another, register
from tda.models.model_state import trained_parameters
from tda.system.errors import UserError
from tda.system.memory import gibibytes
from tda.training.evaluation import logits_of_split
from tda.training.kernel_in_blocks import BlockedKernel
from tda.training.members import Member, roots_of_example
from tda.trak.kernel_on_disk import panel_width

# Rows of the dual kernel, or parameters, above which the iterative solver needs less time and memory.
DUAL_LIMIT = 8000
PRIMAL_LIMIT = 8000

# Solutions of parameter length that are held at once, in bytes; each lot passes over the test examples anew.
_VECTOR_BYTES = 2**28

# Vectors of parameter length for each gradient that MINRES solves for: the gradient, its own, and those of a product.
_VECTORS_OF_MINRES = 16

_MATRICES = ("gauss_newton", "hessian", "heaviest_rows")


def _refuse(matrix: str, damping: float, tolerance: float, max_iterations: int) -> None:
    """Raise UserError for settings that mean nothing."""
    require_positive(damping)
    if matrix not in _MATRICES:
        raise UserError(f"unknown curvature matrix {matrix}; known ones are {', '.join(_MATRICES)}")
    if tolerance <= 0 or max_iterations < 1:
        raise UserError(
            f"the solver needs a positive tolerance and at least one iteration, not {tolerance} and {max_iterations}"
        )


@register(
    "if",
    "IF",
    "Koh and Liang 2017; Gauss-Newton matrix as in Martens 2020",
    check=of_settings(_refuse),
    matrix="gauss_newton",
    damping=0.5,
    tolerance=1e-4,
    max_iterations=200,
)
@one_after_another
def influence(
    member: Member, train: Split, test: Split, matrix: str, damping: float, tolerance: float, max_iterations: int
) -> Attribution:
    """Influence of each training example on each test loss; the report holds the largest relative residual.

    matrix: "gauss_newton", "hessian", or "heaviest_rows": the Gauss-Newton matrix of only those DUAL_LIMIT pairs of example and
    logit with the most curvature, for data and models that are too large for the others. The iterative solver stops at
    `tolerance` or after `max_iterations`. Raises UserError for an unknown matrix and numbers that are not positive.
    """
    _refuse(matrix, damping, tolerance, max_iterations)
    model, objective, budget = member.model, member.objective, member.study.memory_budget
    if matrix == "heaviest_rows":
        require_room_for_rows(model, objective, train, budget)
        scores, kept = heaviest_rows_influence(model, objective, train, test, damping, DUAL_LIMIT)
        return Attribution(scores, {"kept_share_of_trace": kept, "solver": "dual, exact"})
    num_roots = roots_of_example(member, train)
    if matrix == "gauss_newton" and len(train) * num_roots <= DUAL_LIMIT:
        if dual_fits(len(train) * num_roots, len(train), budget):
            scores, residual = dual_influence(model, objective, train, test, damping, budget)
            return Attribution(scores, {"largest_relative_residual": residual, "solver": "dual, exact"})
        scores, residual = dual_influence_on_disk(member, train, test, damping, num_roots)
        return Attribution(scores, {"largest_relative_residual": residual, "solver": "dual, exact, on disk"})
    # Bytes of passes, and how many gradients are solved for at once, each with what MINRES holds beside it.
    passes, at_once = (None, None) if budget is None else (budget // 2, gradients_at_once(model, matrix, budget))
    if matrix == "gauss_newton" and _num_parameters(model) <= PRIMAL_LIMIT:
        inverse, solver = primal_inverse(model, objective, train, damping, passes), "primal"
    else:
        inverse = iterative_inverse(model, objective, train, Solver(matrix, damping, tolerance, max_iterations), passes)
        solver = "MINRES"
    scores, residual = bilinear_scores(model, objective, train, test, inverse, inverse, at_once)
    return Attribution(scores, {"largest_relative_residual": residual, "solver": solver})


def gradients_at_once(model: nn.Module, matrix: str, budget: int) -> int:
    """How many gradients half of a budget has room for, with their solutions and the matrix where it is formed.

    Raises UserError where there is room for none.
    """
    first = next(iter(trained_parameters(model).values()))
    number_bytes, size = max(4, first.element_size()), _num_parameters(model)
    formed = 4 * size**2 * number_bytes if matrix == "gauss_newton" and size <= PRIMAL_LIMIT else 0
    each = _VECTORS_OF_MINRES * size * number_bytes
    if budget // 2 < formed + each:
        raise _too_small(budget, 2 * (formed + each))
    return (budget // 2 - formed) // each


def require_room_for_rows(model: nn.Module, objective: Objective, train: Split, budget: int | None) -> None:
    """Raise UserError where a budget has no room for the gradients of all roots and of the losses, in float64."""
    if budget is None:
        return
    plan = plan_gradients(model, train.inputs, None, len(train), len(train))
    quantities = (objective.logit_roots, objective.loss)
    held = 2 * len(train) * sum(plan.example_bytes(train.inputs, train.labels, quantity) for quantity in quantities)
    least = held + 48 * DUAL_LIMIT**2
    if budget < least:
        raise _too_small(budget, least)


def _num_parameters(model: nn.Module) -> int:
    return sum(map(Tensor.numel, trained_parameters(model).values()))


def _too_small(budget: int, least: int) -> UserError:
    return UserError(
        f"a memory budget of {budget / 2**30:.3g} GiB is too small for this influence function; give {gibibytes(least)} or "
        f"more, or take a method that needs less (trak_projected, ekfac)"
    )


def dual_influence(
    model: nn.Module, objective: Objective, train: Split, test: Split, damping: float, budget: int | None = None
) -> tuple[Tensor, float]:
    """Scores (n_train, n_test) for the Gauss-Newton matrix, and the largest relative residual of the dual system.

    budget: bytes, of which dual_fits leaves a quarter for gradients.

    A training gradient lies in the span of B's rows, g_i = B_i^T u_i (Objective.root_weights), so that
    (B^T B / n + damping)^-1 g_i = B^T (B B^T / n + damping)^-1 u_i: no difference of large numbers, unlike Woodbury's formula.
    That much is done in float64; the products of its results with the test gradients magnify nothing.
    """
    curvature = dual_gauss_newton(model, objective, train, damping, held_bytes=budget and budget // 4)
    logits = logits_of_split(curvature.model, curvature.train)
    weights = torch.block_diag(*objective.root_weights(logits, train.labels)[:, :, None])
    solved, residual = curvature.solve(weights)
    if curvature.rows is None:
        return (solved.T @ curvature.cross(test.cast(torch.float64), objective.loss)).float(), residual
    vector_bytes = _VECTOR_BYTES if budget is None else min(_VECTOR_BYTES, budget // 8)
    at_once = max(1, vector_bytes // (8 * sum(shape.numel() for shape in curvature.rows.shapes.values())))
    dtype = next(iter(trained_parameters(model).values())).dtype
    scores = []
    for columns in solved.split(at_once, dim=1):
        vectors = {name: vector.to(dtype) for name, vector in curvature.rows.combined(columns.T).items()}
        scores.append(times_vectors(model, objective.loss, test, vectors))
    return torch.cat(scores).float(), residual


def dual_influence_on_disk(member: Member, train: Split, test: Split, damping: float, num_roots: int) -> tuple[Tensor, float]:
    """The same where the study's memory budget has no room for the kernel: U^T (B B^T / n + damping)^-1 B g_test, by blocks.

    U holds the weights u_i, of which an example has num_roots; the residual is that of the solutions for the test gradients.
    Raises UserError where the budget has no room for a panel.
    """
    panel_width(len(train) * num_roots, member.study.memory_budget, num_roots)
    model, train, plan = in_double_precision(member.model, train)
    objective, num_train = member.objective, len(train)
    weights = objective.root_weights(logits_of_split(model, train), train.labels).cpu()

    def combined(solved: Tensor) -> Tensor:
        return torch.einsum("nr,nrm->nm", weights, solved.view(num_train, num_roots, -1))

    kernel = BlockedKernel(
        member,
        "if_roots",
        plan,
        train,
        test.cast(torch.float64),
        objective.curvature_roots,
        test_quantity=objective.loss,
        rows_of_example=num_roots,
    )
    scores, _, residual = kernel.solve(lambda _: damping * num_train, combined=combined)
    return (num_train * scores).float(), residual


def heaviest_rows_influence(
    model: nn.Module, objective: Objective, train: Split, test: Split, damping: float, limit: int
) -> tuple[Tensor, float]:
    """Scores (n_train, n_test) with the Gauss-Newton matrix B^T B / n of the `limit` longest rows of B; their trace share.

    Woodbury: (B^T B / n + damping)^-1 = (I - B^T (B B^T / n + damping)^-1 B / n) / damping, in float64, for it is a
    difference of large numbers.
    """
    curvature = dual_gauss_newton(model, objective, train, damping, most_rows=limit)
    by_train, by_test = (
        curvature.plan.rows(split.inputs, split.labels, objective.loss) for split in (curvature.train, test.cast(torch.float64))
    )
    solved, _ = curvature.solve(curvature.rows.inner(by_test))
    scores = (by_train.inner(by_test) - curvature.rows.inner(by_train).T @ solved / len(train)) / damping
    return scores.float(), curvature.kept
