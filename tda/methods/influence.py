"""Influence functions with a solver that converges and reports its residual (Koh and Liang 2017).

g_train^T (C + damping)^-1 g_test, C the Gauss-Newton matrix of the mean training loss or its Hessian. The Gauss-Newton
matrix has rank at most n_train times the number of logits, so that its inverse is exact algebra on a kernel of that
size (Woodbury) and no vector of parameter length is ever formed.
"""

import torch
from torch import Tensor

from tda.errors import UserError
from tda.gradient_kernel import gradient_kernel
from tda.inverse_curvature import Solver, bilinear_scores, iterative_inverse
from tda.members import Member
from tda.methods.registry import Attribution, one_after_another, register
from tda.quantities import cross_entropy_loss
from tda.subsets import Split

# Rows of the dual kernel above which the iterative solver needs less time and memory.
DUAL_LIMIT = 8000


@register(
    "if",
    "IF",
    "Koh and Liang 2017; Gauss-Newton matrix as in Martens 2020",
    matrix="gauss_newton",
    damping=5e-3,
    tolerance=1e-4,
    max_iterations=200,
)
@one_after_another
def influence(
    member: Member, train: Split, test: Split, matrix: str, damping: float, tolerance: float, max_iterations: int
) -> Attribution:
    """Influence of each training example on each test loss; the report holds the largest relative residual.

    matrix: "gauss_newton" or "hessian"; the iterative solver stops at `tolerance` or after `max_iterations`.
    Raises UserError unless damping is positive.
    """
    if damping <= 0:
        raise UserError(f"the damping of the influence function must be positive, not {damping}")
    num_logits = member.model(train.images[:1]).shape[1]
    if matrix == "gauss_newton" and len(train) * num_logits <= DUAL_LIMIT:
        scores, residual = dual_influence(member, train, test, damping)
        return Attribution(scores, {"largest_relative_residual": residual, "solver": "dual, exact"})
    inverse = iterative_inverse(member, train, Solver(matrix, damping, tolerance, max_iterations))
    scores, residual = bilinear_scores(member, train, test, inverse, inverse)
    return Attribution(scores, {"largest_relative_residual": residual, "solver": "MINRES"})


def dual_influence(member: Member, train: Split, test: Split, damping: float) -> tuple[Tensor, float]:
    """Scores (n_train, n_test) for the Gauss-Newton matrix, and the largest relative residual of the dual system.

    With B the rows of S_i^T J_i, S_i S_i^T = diag(p_i) - p_i p_i^T, the matrix is B^T B / n, and by Woodbury
    (B^T B / n + damping)^-1 = (I - B^T (B B^T + n damping)^-1 B) / damping.
    """
    kernel = gradient_kernel(
        member.model,
        (train.images, train.labels),
        (test.images, test.labels),
        left_quantity=curvature_roots_and_loss,
        left_gram=True,
    )
    num_train = len(train)
    gram = kernel.left_gram.double().unflatten(1, (num_train, -1)).unflatten(0, (num_train, -1))
    cross = kernel.cross.double().unflatten(0, (num_train, -1))
    roots = gram[:, :-1, :, :-1].flatten(2, 3).flatten(0, 1)
    roots_train = gram[:, :-1, :, -1].flatten(0, 1)
    roots_test, train_test = cross[:, :-1].flatten(0, 1), cross[:, -1]
    system = roots + num_train * damping * torch.eye(len(roots), dtype=roots.dtype, device=roots.device)
    system = (system + system.T) / 2
    solved = torch.cholesky_solve(roots_train, torch.linalg.cholesky(system))
    sizes = roots_train.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
    residual = ((system @ solved - roots_train).norm(dim=0) / sizes).max()
    return ((train_test - solved.T @ roots_test) / damping).float(), float(residual)


def curvature_roots_and_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Quantities (b, C + 1): S^T z with S S^T = diag(p) - p p^T held fixed, then the loss.

    S = diag(sqrt p) - p sqrt(p)^T, so that column c is sqrt(p_c) (z_c - p . z).
    """
    probabilities = logits.detach().softmax(dim=1)
    centred = logits - (probabilities * logits).sum(dim=1, keepdim=True)
    return torch.cat([probabilities.sqrt() * centred, cross_entropy_loss(logits, labels)[:, None]], dim=1)
