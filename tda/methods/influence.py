"""Influence functions with a solver that converges and reports its residual (Koh and Liang 2017).

g_train^T (C + damping)^-1 g_test, C the Gauss-Newton matrix of the mean training loss or its Hessian. The Gauss-Newton
matrix has rank at most n_train times the number of logits, so that its inverse is exact algebra on a kernel of that
size (Woodbury), or on the matrix itself where the model has fewer parameters than that.

The default damping, 0.5, is a hundred times that of the published recursion: it predicts leave-one-out better on digits3 and on
mnist3 (benchmarks/influence_matrix.py), whose few training steps leave most directions unlearned.
"""

import torch
from torch import Tensor, nn

from tda.curvature.dual_gauss_newton import dual_gauss_newton, require_positive
from tda.curvature.inverses import Solver, bilinear_scores, iterative_inverse, primal_inverse, times_vectors
from tda.data.splits import Split
from tda.gradients.objectives import Objective
from tda.methods.registry import Attribution, of_settings, one_after_another, register
from tda.models.model_state import trained_parameters
from tda.system.errors import UserError
from tda.system.inputs import call
from tda.training.evaluation import logits_of_split
from tda.training.members import Member

# Rows of the dual kernel, or parameters, above which the iterative solver needs less time and memory.
DUAL_LIMIT = 8000
PRIMAL_LIMIT = 8000

# Solutions of parameter length that are held at once, in bytes; each lot passes over the test examples anew.
_VECTOR_BYTES = 2**28

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
    model, objective = member.model, member.objective
    if matrix == "heaviest_rows":
        scores, kept = heaviest_rows_influence(model, objective, train, test, damping, DUAL_LIMIT)
        return Attribution(scores, {"kept_share_of_trace": kept, "solver": "dual, exact"})
    num_roots = objective.curvature_roots(call(model, train[:1].inputs), train[:1].labels).shape[1]
    if matrix == "gauss_newton" and len(train) * num_roots <= DUAL_LIMIT:
        scores, residual = dual_influence(model, objective, train, test, damping)
        return Attribution(scores, {"largest_relative_residual": residual, "solver": "dual, exact"})
    if matrix == "gauss_newton" and sum(map(Tensor.numel, member.state.parameters.values())) <= PRIMAL_LIMIT:
        inverse, solver = primal_inverse(model, objective, train, damping), "primal"
    else:
        inverse = iterative_inverse(model, objective, train, Solver(matrix, damping, tolerance, max_iterations))
        solver = "MINRES"
    scores, residual = bilinear_scores(model, objective, train, test, inverse, inverse)
    return Attribution(scores, {"largest_relative_residual": residual, "solver": solver})


def dual_influence(model: nn.Module, objective: Objective, train: Split, test: Split, damping: float) -> tuple[Tensor, float]:
    """Scores (n_train, n_test) for the Gauss-Newton matrix, and the largest relative residual of the dual system.

    A training gradient lies in the span of B's rows, g_i = B_i^T u_i (Objective.root_weights), so that
    (B^T B / n + damping)^-1 g_i = B^T (B B^T / n + damping)^-1 u_i: no difference of large numbers, unlike Woodbury's formula.
    That much is done in float64; the products of its results with the test gradients magnify nothing.
    """
    curvature = dual_gauss_newton(model, objective, train, damping)
    logits = logits_of_split(curvature.model, curvature.train)
    weights = torch.block_diag(*objective.root_weights(logits, train.labels)[:, :, None])
    solved, residual = curvature.solve(weights)
    if curvature.rows is None:
        return (solved.T @ curvature.cross(test.cast(torch.float64), objective.loss)).float(), residual
    at_once = max(1, _VECTOR_BYTES // (8 * sum(shape.numel() for shape in curvature.rows.shapes.values())))
    dtype = next(iter(trained_parameters(model).values())).dtype
    scores = []
    for columns in solved.split(at_once, dim=1):
        vectors = {name: vector.to(dtype) for name, vector in curvature.rows.combined(columns.T).items()}
        scores.append(times_vectors(model, objective.loss, test, vectors))
    return torch.cat(scores).float(), residual


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
