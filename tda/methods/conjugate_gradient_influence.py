"""Influence functions by block conjugate gradients, for models and data whose exact solve does not fit.

The score is that of `if`, g_train^T (G + damping)^-1 g_test with the Gauss-Newton matrix of the mean training loss, to a stated
tolerance, in memory that grows with neither examples squared nor parameters squared. All right-hand sides of the smaller side
share one search, so that the few directions of large curvature, which every one of them needs, are found in the first steps.

EK-FAC's curvature is here the preconditioner and no longer the answer, as in ASTRA (Wang et al. 2025), which takes thousands of
noisy steps on small batches for each test example; here a product is exact and with the whole training set, and the residual
says how far the solution is. A preconditioner helps where training gradients span the parameters (logistic regression on 5,000
images: 40 products for one right-hand side instead of 72). Where they do not, G is 0 in most directions and damping alone is
left there, one eigenvalue that EK-FAC would spread out again (two-layer CNN on 30 images: 5 block products instead of 3).
"""

import torch

from tda.curvature.block_conjugate_gradients import block_conjugate_gradients
from tda.curvature.dual_gauss_newton import require_positive
from tda.curvature.kronecker_coordinates import KroneckerCoordinates, gauss_newton_rows, kronecker_coordinates
from tda.data.splits import Split
from tda.methods.registry import Attribution, one_after_another, register
from tda.system.errors import UserError
from tda.system.inputs import call
from tda.training.members import Member

# One of the about eight blocks of vectors that a search holds, in bytes; more right-hand sides are solved in lots.
VECTOR_BYTES = 2**28


@register(
    "if_cg",
    "IF (conjugate gradients)",
    "Koh and Liang 2017; Wang et al. 2025; O'Leary 1980; Dubrulle 2001",
    in_all=False,
    damping=0.5,
    tolerance=1e-4,
    max_iterations=200,
    preconditioner="auto",
)
@one_after_another
def conjugate_gradient_influence(
    member: Member, train: Split, test: Split, damping: float, tolerance: float, max_iterations: int, preconditioner: str
) -> Attribution:
    """Influence of each training example on each test loss, solved for the smaller of both sides.

    damping: that of `if`; the solver stops once every relative residual is below tolerance, or after max_iterations block
    products; preconditioner: "ekfac", "none", or "auto": EK-FAC where training examples times logits are as many as the
    parameters that they reach. The report holds the largest relative residual, the block products of a lot of right-hand sides
    and the preconditioner. Raises UserError for a damping or tolerance that is not positive, an unknown preconditioner, or a
    model without linear layers.
    """
    require_positive(damping)
    if tolerance <= 0:
        raise UserError(f"the tolerance of if_cg must be positive, not {tolerance}")
    if preconditioner not in ("auto", "ekfac", "none"):
        raise UserError(f"unknown preconditioner {preconditioner}; known ones are auto, ekfac, none")
    objective = member.objective
    coordinates, diagonal = kronecker_coordinates(member.model, objective, train)
    if preconditioner == "auto":
        preconditioner = "ekfac" if _num_rows(member, train) >= coordinates.size else "none"
    close = diagonal + damping if preconditioner == "ekfac" else torch.ones_like(diagonal)
    product = gauss_newton_rows(coordinates, objective, train)
    by_train = len(train) <= len(test)
    few, many = (train, test) if by_train else (test, train)
    at_once = max(1, VECTOR_BYTES // (diagonal.element_size() * coordinates.size))
    scores, residuals, iterations = [], [], []
    for positions in torch.arange(len(few)).split(at_once):
        right_sides = torch.cat([rows.dense() for rows in coordinates.rows(few[positions], objective.loss)])
        found = block_conjugate_gradients(
            lambda vectors: product(vectors) + damping * vectors, right_sides, close, tolerance, max_iterations
        )
        scores.append(_inner_products(coordinates, found.x, many, member))
        residuals.append(float(found.residuals.max()))
        iterations.append(found.iterations)
    solver = {"iterations": max(iterations), "preconditioner": preconditioner}
    joined = torch.cat(scores)
    return Attribution(joined if by_train else joined.T, {"largest_relative_residual": max(residuals)} | solver)


def _num_rows(member: Member, train: Split) -> int:
    """Training examples times the roots of one's curvature, of which a classifier has as many as logits."""
    return len(train) * member.objective.curvature_roots(call(member.model, train[:1].inputs), train[:1].labels).shape[1]


def _inner_products(coordinates: KroneckerCoordinates, solved: torch.Tensor, split: Split, member: Member) -> torch.Tensor:
    """Inner products (k, n) of solutions (k, p') with the loss gradients of a split."""
    vectors = coordinates.cut(solved)
    return torch.cat([rows.times(vectors) for rows in coordinates.rows(split, member.objective.loss)], dim=1)
