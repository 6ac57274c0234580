"""Influence functions by preconditioned conjugate gradients, for models and data whose exact solve does not fit.

The score is that of `if`, g_train^T (G + damping)^-1 g_test with the Gauss-Newton matrix of the mean training loss, to a stated
tolerance. EK-FAC's curvature is no longer the answer but the preconditioner, as in ASTRA (Wang et al. 2025), which takes noisy
steps on small batches, many thousand of them, for each test example. Here every product is with the whole training set, exact
in the coordinates of EK-FAC, and all right-hand sides share one search (block conjugate gradients), so that a few products
reach the tolerance, and the residual says that they did.
"""

import torch
from torch import Tensor

from tda.curvature.block_conjugate_gradients import block_conjugate_gradients
from tda.curvature.dual_gauss_newton import require_positive
from tda.curvature.kronecker_coordinates import KroneckerCoordinates, gauss_newton_rows, kronecker_coordinates
from tda.data.splits import Split
from tda.methods.registry import Attribution, one_after_another, register
from tda.system.errors import UserError
from tda.training.members import Member

# One of the about eight blocks of vectors that a search holds, in bytes; more right-hand sides are solved in lots.
VECTOR_BYTES = 2**28


@register(
    "if_ekfac_cg",
    "IF (EK-FAC CG)",
    "Koh and Liang 2017; preconditioner as in Wang et al. 2025; O'Leary 1980; Dubrulle 2001",
    in_all=False,
    damping=0.5,
    tolerance=1e-4,
    max_iterations=200,
    preconditioner="ekfac",
)
@one_after_another
def preconditioned_influence(
    member: Member, train: Split, test: Split, damping: float, tolerance: float, max_iterations: int, preconditioner: str
) -> Attribution:
    """Influence of each training example on each test loss, solved for the smaller of both sides.

    damping: that of `if`; the solver stops once every relative residual is below tolerance, or after max_iterations products;
    preconditioner: "ekfac" or, for comparison, "none". The report holds the largest relative residual and the products of one
    lot of right-hand sides. Raises UserError for a damping or tolerance that is not positive, an unknown preconditioner, or a
    model without linear layers.
    """
    require_positive(damping)
    if tolerance <= 0:
        raise UserError(f"the tolerance of if_ekfac_cg must be positive, not {tolerance}")
    if preconditioner not in ("ekfac", "none"):
        raise UserError(f"unknown preconditioner {preconditioner}; known ones are ekfac, none")
    objective = member.objective
    coordinates, diagonal = kronecker_coordinates(member.model, objective, train)
    damped = diagonal + damping if preconditioner == "ekfac" else torch.ones_like(diagonal)
    product = gauss_newton_rows(coordinates, objective, train)
    by_train = len(train) <= len(test)
    few, many = (train, test) if by_train else (test, train)
    at_once = max(1, VECTOR_BYTES // (diagonal.element_size() * coordinates.size))
    scores, residuals, iterations = [], [], []
    for positions in torch.arange(len(few)).split(at_once):
        right_sides = torch.cat([rows.dense() for rows in coordinates.rows(few[positions], objective.loss)])
        found = block_conjugate_gradients(
            lambda vectors: product(vectors) + damping * vectors, right_sides, damped, tolerance, max_iterations
        )
        scores.append(_times(coordinates, found.x, many, member))
        residuals.append(float(found.residuals.max()))
        iterations.append(found.iterations)
    report = {"largest_relative_residual": max(residuals), "iterations": max(iterations)}
    joined = torch.cat(scores)
    return Attribution(joined if by_train else joined.T, report)


def _times(coordinates: KroneckerCoordinates, solved: Tensor, split: Split, member: Member) -> Tensor:
    """Inner products (k, n) of solutions (k, p') with the loss gradients of a split."""
    vectors = coordinates.cut(solved)
    return torch.cat([rows.times(vectors) for rows in coordinates.rows(split, member.objective.loss)], dim=1)
