"""Influence functions by block conjugate gradients, for models and data whose exact solve does not fit.

The score is that of `if`, g_train^T (G + damping)^-1 g_test with the Gauss-Newton matrix of the mean training loss, to a stated
tolerance, in memory that grows with neither examples squared nor parameters squared. All right-hand sides of the smaller side
share one search, so that the few directions of large curvature, which every one of them needs, are found in the first steps.

EK-FAC's curvature is here the preconditioner and no longer the answer, as in ASTRA (Wang et al. 2025), which takes thousands of
noisy steps on small batches for each test example; here a product is exact and with the whole training set, and the residual
says how far the solution is. A preconditioner helps where training gradients span the parameters (logistic regression on 5,000
images: 40 products for one right-hand side instead of 72). Where they do not, G is 0 in most directions and damping alone is
left there, one eigenvalue that EK-FAC would spread out again (two-layer CNN on 30 images: 5 block products instead of 3). The
search is then without one and, for training gradients, which are B^T u, in the space of B's rows: (G + damping)^-1 B^T u =
B^T (B B^T / n + damping)^-1 u.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tda.curvature.block_conjugate_gradients import BlockSolution, block_conjugate_gradients
from tda.curvature.dual_gauss_newton import require_positive
from tda.curvature.gauss_newton_rows import combined, held_or_anew, kernel_products, matrix_products
from tda.curvature.inverses import times_vectors
from tda.curvature.kronecker_coordinates import KroneckerCoordinates, kronecker_coordinates, with_factors
from tda.curvature.products import Products
from tda.data.splits import Split
from tda.gradients.gradient_kernel import examples_at_once
from tda.gradients.gradient_plan import plan_gradients
from tda.methods.registry import Attribution, one_after_another, register
from tda.system.errors import UserError
from tda.training.evaluation import logits_of_split
from tda.training.members import Member, roots_of_example

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
    products; preconditioner: "ekfac", "none", or "auto": EK-FAC where training examples times roots are as many as the
    parameters that they reach. The report holds the largest relative residual, the block products of a lot of right-hand sides
    and the preconditioner. Raises UserError for a damping or tolerance that is not positive, an unknown preconditioner, or a
    model without linear layers.
    """
    require_positive(damping)
    if tolerance <= 0:
        raise UserError(f"the tolerance of if_cg must be positive, not {tolerance}")
    if preconditioner not in ("auto", "ekfac", "none"):
        raise UserError(f"unknown preconditioner {preconditioner}; known ones are auto, ekfac, none")
    by_train = len(train) <= len(test)
    rows = len(train) * roots_of_example(member, train)
    parameters = sum(map(Tensor.numel, member.state.parameters.values()))
    search = _Search(damping, tolerance, max_iterations)
    if preconditioner != "ekfac" and by_train and rows < parameters:
        scores, report = _solved_by_rows(member, train, test, search)
        return Attribution(scores, report | {"preconditioner": "none"})
    coordinates, diagonal = kronecker_coordinates(member.model, member.objective, train)
    if preconditioner == "auto":
        preconditioner = "ekfac" if rows >= coordinates.size else "none"
    close = diagonal + damping if preconditioner == "ekfac" else torch.ones_like(diagonal)
    few, many = (train, test) if by_train else (test, train)
    scores, report = _solved_by_coordinates(member, train, few, many, coordinates, close, search)
    return Attribution(scores if by_train else scores.T, report | {"preconditioner": preconditioner})


@dataclass(frozen=True)
class _Search:
    """What is added to the curvature, and when the search ends."""

    damping: float
    tolerance: float
    max_iterations: int

    def solve(self, product: Products, right_sides: Tensor, diagonal: Tensor) -> BlockSolution:
        def damped(vectors: Tensor) -> Tensor:
            return product(vectors) + self.damping * vectors

        return block_conjugate_gradients(damped, right_sides, diagonal, self.tolerance, self.max_iterations)


def _solved_by_rows(member: Member, train: Split, test: Split, search: _Search) -> tuple[Tensor, dict]:
    """Scores (n_train, n_test), and the report, by weights of the curvature's rows."""
    model, objective = member.model, member.objective
    plan = with_factors(plan_gradients(model, train.inputs))
    size = examples_at_once(plan, train.inputs, plan.example_bytes(train.inputs, train.labels, objective.curvature_roots))
    blocks = held_or_anew(lambda: plan.streamed(train.inputs, train.labels, objective.curvature_roots, size))
    weights = torch.block_diag(*objective.root_weights(logits_of_split(model, train), train.labels)[:, None])
    at_once = _at_once(weights, sum(shape.numel() for shape in plan.shapes.values()))
    products = kernel_products(blocks, len(train), at_once)
    found = search.solve(products, weights, torch.ones_like(weights[0]))
    lots = found.x.split(at_once)
    scores = torch.cat([times_vectors(model, objective.loss, test, combined(blocks, lot)) for lot in lots])
    return scores, {"largest_relative_residual": float(found.residuals.max()), "iterations": found.iterations}


def _solved_by_coordinates(
    member: Member,
    train: Split,
    few: Split,
    many: Split,
    coordinates: KroneckerCoordinates,
    diagonal: Tensor,
    search: _Search,
) -> tuple[Tensor, dict]:
    """Scores (n_few, n_many), and the report, by vectors in the coordinates, preconditioned by a diagonal."""
    objective = member.objective
    blocks = held_or_anew(lambda: coordinates.rows(train, objective.curvature_roots))
    products = matrix_products(blocks, len(train), coordinates.cut)
    scores, solutions = [], []
    for positions in torch.arange(len(few)).split(_at_once(diagonal, coordinates.size)):
        right_sides = torch.cat([rows.dense() for rows in coordinates.rows(few[positions], objective.loss)])
        solutions.append(search.solve(products, right_sides, diagonal))
        vectors = coordinates.cut(solutions[-1].x)
        scores.append(torch.cat([rows.times(vectors) for rows in coordinates.rows(many, objective.loss)], dim=1))
        solutions[-1] = replace(solutions[-1], x=None)
    residual = max(float(found.residuals.max()) for found in solutions)
    report = {"largest_relative_residual": residual, "iterations": max(found.iterations for found in solutions)}
    return torch.cat(scores), report


def _at_once(like: Tensor, size: int) -> int:
    return max(1, VECTOR_BYTES // (like.element_size() * size))
