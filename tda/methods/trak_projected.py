"""TRAK on randomly projected gradients of the margin (Park et al. 2023), where the exact form would be too large.

As trak.py, with phi replaced by its projection to a small dimension, drawn once for each member, whatever the batches. Memory
is n_train * dimension numbers and the smaller of n_train^2 and dimension^2.
"""

import torch
from torch import Tensor

from tda.data.splits import Split
from tda.gradients.gradient_kernel import examples_at_once
from tda.gradients.gradient_plan import GradientPlan, plan_gradients
from tda.gradients.projections import Projection
from tda.gradients.quantities import Quantity
from tda.methods.registry import Attribution, of_settings, per_member, register
from tda.methods.trak import regression_scores
from tda.system.random_streams import stream_seed
from tda.training.members import Member
from tda.trak.regression import checked_ridge, require_not_negative, solve_with_ridge


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
)
@per_member
def trak_projected(
    member: Member, train: Split, test: Split, ridge: float | None, dimension: int, projection_seed: int, projection: str
) -> Attribution:
    """How much each training example raises each test example's margin, with projected gradients of one member.

    ridge: added to the diagonal of Phi^T Phi, by default the mean of that of Phi Phi^T; projection: "normal", "rademacher" or
    "sparse"; members draw their own from projection_seed. Raises UserError as trak and projections.Projection do.
    """
    own_seed = stream_seed(member.seed, f"projection {projection_seed} after epoch {member.epoch}")
    drawn = Projection(dimension, own_seed, projection)
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


def _features(plan: GradientPlan, split: Split, quantity: Quantity, projection: Projection) -> Tensor:
    """Projected gradients (n, dimension) float64."""
    example_bytes = plan.example_bytes(split.inputs, split.labels, quantity)
    size = examples_at_once(plan, split.inputs, example_bytes)
    return torch.cat([projection.project(rows) for rows in plan.streamed(split.inputs, split.labels, quantity, size)]).double()
