"""Influence functions with a solver that converges and reports its residual (Koh and Liang 2017).

g_train^T (C + damping)^-1 g_test, C the Gauss-Newton matrix of the mean training loss or its Hessian. The Gauss-Newton
matrix has rank at most n_train times the number of logits, so that its inverse is exact algebra on a kernel of that
size (Woodbury), or on the matrix itself where the model has fewer parameters than that.

The default damping, 0.5, is a hundred times that of the published recursion: it predicts leave-one-out better on digits3 and on
mnist3 (benchmarks/influence_matrix.py), whose few training steps leave most directions unlearned.
"""

import copy

import torch
from torch import Tensor, nn

from tda.curvature.inverses import Solver, bilinear_scores, blocks_of_gradients, iterative_inverse, primal_inverse
from tda.data.splits import Split
from tda.gradients.gradient_kernel import gradient_rows
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.quantities import cross_entropy_loss, curvature_roots
from tda.methods.registry import Attribution, one_after_another, register
from tda.system.errors import UserError
from tda.training.members import Member

# Rows of the dual kernel, or parameters, above which the iterative solver needs less time and memory.
DUAL_LIMIT = 8000
PRIMAL_LIMIT = 8000

# Solutions of parameter length that are held at once, in bytes; each lot passes over the test examples anew.
_VECTOR_BYTES = 2**28


@register(
    "if",
    "IF",
    "Koh and Liang 2017; Gauss-Newton matrix as in Martens 2020",
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
    `tolerance` or after `max_iterations`. Raises UserError unless damping is positive.
    """
    if damping <= 0:
        raise UserError(f"the damping of the influence function must be positive, not {damping}")
    if matrix == "heaviest_rows":
        scores, kept = heaviest_rows_influence(member, train, test, damping, DUAL_LIMIT)
        return Attribution(scores, {"kept_share_of_trace": kept, "solver": "dual, exact"})
    num_logits = member.model(train.images[:1]).shape[1]
    if matrix == "gauss_newton" and len(train) * num_logits <= DUAL_LIMIT:
        scores, residual = dual_influence(member, train, test, damping)
        return Attribution(scores, {"largest_relative_residual": residual, "solver": "dual, exact"})
    if matrix == "gauss_newton" and sum(map(torch.Tensor.numel, member.state.parameters.values())) <= PRIMAL_LIMIT:
        inverse, solver = primal_inverse(member, train, damping), "primal"
    else:
        inverse, solver = iterative_inverse(member, train, Solver(matrix, damping, tolerance, max_iterations)), "MINRES"
    scores, residual = bilinear_scores(member, train, test, inverse, inverse)
    return Attribution(scores, {"largest_relative_residual": residual, "solver": solver})


def dual_influence(member: Member, train: Split, test: Split, damping: float) -> tuple[Tensor, float]:
    """Scores (n_train, n_test) for the Gauss-Newton matrix, and the largest relative residual of the dual system.

    The matrix is B^T B / n (quantities.curvature_roots). A training gradient lies in the span of B's rows, g_i = B_i^T u_i
    with u_i = sqrt(p) (1 - e_y / p_y), so that (B^T B / n + damping)^-1 g_i = B^T (B B^T / n + damping)^-1 u_i: no difference
    of large numbers, unlike Woodbury's formula. That much is done in float64, since the inverse magnifies rounding by
    up to its largest eigenvalue over the damping; the products of its results with the test gradients magnify nothing.
    """
    model = copy.deepcopy(member.model).double()
    images = train.images.double()
    plan = plan_gradients(model, images, None, len(train), len(train))
    rows = gradient_rows(images, train.labels, curvature_roots, plan)
    gram = rows.gram()
    system = (gram + gram.T) / (2 * len(train)) + damping * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weights = _root_weights(model, train)
    solved = torch.cholesky_solve(weights, torch.linalg.cholesky(system))
    sizes = weights.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
    residual = ((system @ solved - weights).norm(dim=0) / sizes).max()
    at_once = max(1, _VECTOR_BYTES // (8 * sum(shape.numel() for shape in rows.shapes.values())))
    scores = []
    for columns in solved.split(at_once, dim=1):
        vectors = {name: vector.to(test.images.dtype) for name, vector in rows.combined(columns.T).items()}
        scores.append(torch.cat([block.times(vectors) for _, block in blocks_of_gradients(member, test)], dim=1))
    return torch.cat(scores).float(), float(residual)


def heaviest_rows_influence(member: Member, train: Split, test: Split, damping: float, limit: int) -> tuple[Tensor, float]:
    """Scores (n_train, n_test) with the Gauss-Newton matrix B^T B / n of the `limit` longest rows of B; their trace share.

    Woodbury: (B^T B / n + damping)^-1 = (I - B^T (B B^T + n damping)^-1 B) / damping, in float64, for it is a difference of
    large numbers. A converged network's curvature is that of the few examples of which it is not yet sure.
    """
    model = copy.deepcopy(member.model).double()
    images = train.images.double()
    plan = plan_gradients(model, images, None, len(train), len(train))
    rows = gradient_rows(images, train.labels, curvature_roots, plan)
    sizes = rows.squared_norms()
    longest = sizes.argsort(descending=True, stable=True)[:limit]
    heavy = rows.chosen(longest)
    by_train = gradient_rows(images, train.labels, cross_entropy_loss, plan)
    by_test = gradient_rows(test.images.double(), test.labels, cross_entropy_loss, plan)
    gram = heavy.gram()
    system = (gram + gram.T) / 2
    system.diagonal().add_(len(train) * damping)
    solved = torch.cholesky_solve(heavy.inner(by_test), torch.linalg.cholesky(system))
    scores = (by_train.inner(by_test) - heavy.inner(by_train).T @ solved) / damping
    return scores.float(), float(sizes[longest].sum() / sizes.sum())


def _root_weights(model: nn.Module, train: Split) -> Tensor:
    """The u of every training example, as columns (n_train * C, n_train) float64."""
    with torch.no_grad():
        log_probabilities = model(train.images.double()).log_softmax(dim=1)
    roots = (log_probabilities / 2).exp()
    label = train.labels[:, None]
    own = (log_probabilities.gather(1, label) / 2).exp() - (-log_probabilities.gather(1, label) / 2).exp()
    return torch.block_diag(*roots.scatter(1, label, own)[:, :, None])
