"""TRAK on randomly projected gradients of the margin (Park et al. 2023), where the exact form would be too large.

As trak.py, with phi replaced by its projection to a small dimension, drawn once for each member, whatever the batches. Memory
is n_train * dimension numbers and the smaller of n_train^2 and dimension^2. Where the study's memory budget has no room for
that, or half_precision is asked for, the projected gradients lie on disk (projected_gradients.py) and are read by blocks: what
is held then is dimension^2, a block, and the scores.
"""

import numpy as np
import torch
from torch import Tensor

from tda.data.splits import Split
from tda.gradients.gradient_kernel import examples_at_once
from tda.gradients.gradient_plan import GradientPlan, plan_gradients
from tda.gradients.projections import Projection
from tda.gradients.quantities import Quantity
from tda.methods.registry import Attribution, of_settings, per_member, register
from tda.methods.trak import regression_scores
from tda.training.members import Member
from tda.training.projected_gradients import projection_of, stored_rows
from tda.trak.regression import checked_ridge, require_not_negative, solve_with_ridge
from tda.trak.ridge import ModelParts, SolvedTargets, factor, mean_products, require_room, squared_norms


def _refuse(ridge: float | None, dimension: int, projection: str) -> None:
    """Raise UserError for settings that mean nothing."""
    require_not_negative(ridge)
    Projection(dimension, kind=projection)


@register(
    "trak_projected",
    "TRAK (projected)",
    "Park et al. 2023",
    check=of_settings(_refuse),
    ridge=None,
    dimension=2048,
    projection_seed=0,
    projection="sparse",
    half_precision=False,
)
@per_member
def trak_projected(
    member: Member,
    train: Split,
    test: Split,
    ridge: float | None,
    dimension: int,
    projection_seed: int,
    projection: str,
    half_precision: bool,
) -> Attribution:
    """How much each training example raises each test example's margin, with projected gradients of one member.

    ridge: added to the diagonal of Phi^T Phi, by default the mean of that of Phi Phi^T; projection: "normal", "rademacher" or
    "sparse"; members draw their own from projection_seed; half_precision: keep projected gradients on disk in float16, whatever
    the memory budget. Raises UserError as trak and projections.Projection do, and for a memory budget that is too small.
    """
    drawn, budget = projection_of(member, dimension, projection_seed, projection), member.study.memory_budget
    if half_precision or not _fits(len(train), len(test), dimension, budget):
        return _by_blocks(member, train, test, ridge, drawn, half_precision)
    plan = plan_gradients(member.model, train.inputs)
    left, right = (_features(plan, split, member.objective.margin, drawn) for split in (train, test))
    chosen = checked_ridge(ridge, left.square().sum(dim=1))
    # (Phi^T Phi + ridge)^-1 on the smaller side: Phi (Phi^T Phi + ridge)^-1 = (Phi Phi^T + ridge)^-1 Phi.
    if len(left) <= dimension:
        rest, residual = solve_with_ridge(left @ left.T, left @ right.T, chosen)
    else:
        solved, residual = solve_with_ridge(left.T @ left, right.T, chosen)
        rest = left @ solved
    return regression_scores(member, train, rest, {"ridge": chosen, "largest_relative_residual": residual})


def _fits(num_train: int, num_test: int, dimension: int, budget: int | None) -> bool:
    """Whether a budget of bytes has room for the gradients, what is solved of them, and the matrix to invert, in float64."""
    return budget is None or 8 * (2 * (num_train + num_test) * dimension + 3 * min(num_train, dimension) ** 2) <= budget


def _by_blocks(
    member: Member, train: Split, test: Split, ridge: float | None, drawn: Projection, half_precision: bool
) -> Attribution:
    budget, device = member.study.memory_budget, member.device
    require_room(drawn.dimension, budget)
    left, right = stored_rows(member, train, test, drawn, half_precision)
    chosen = checked_ridge(ridge, squared_norms(left.gradients))
    targets = SolvedTargets(right.gradients, factor(left.gradients, chosen, device, budget))
    parts = [ModelParts(left.gradients, left.out_to_loss, targets)]
    rest = torch.empty(len(train), len(test), dtype=torch.float64)
    for (rows, columns), products in mean_products(parts, np.dtype(np.float64), device, budget):
        rest[rows, columns] = torch.from_numpy(products)
    return regression_scores(
        member, train, rest.to(device), {"ridge": chosen, "largest_relative_residual": targets.largest_residual}
    )


def _features(plan: GradientPlan, split: Split, quantity: Quantity, projection: Projection) -> Tensor:
    """Projected gradients (n, dimension) float64."""
    example_bytes = plan.example_bytes(split.inputs, split.labels, quantity)
    size = examples_at_once(plan, split.inputs, example_bytes)
    return torch.cat([projection.project(rows) for rows in plan.streamed(split.inputs, split.labels, quantity, size)]).double()
