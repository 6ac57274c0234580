"""A training cut into segments, in each of which curvature and gradients are taken as constant (Bae et al. 2024, section 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError


@dataclass(frozen=True)
class Segment:
    """Some of a training's steps in a row.

    epochs: of the checkpoints in it; steps: their number; rates: the sum of the steps' learning rates, with momentum m divided
    by 1 - m, for so far does a gradient move the weights in the end.
    """

    epochs: tuple[int, ...]
    steps: int
    rates: float


def segments(plan: TrainingPlan, num_train: int, epochs: Sequence[int], num_segments: int) -> list[Segment]:
    """Cut the training up to the last of these epochs, of which there are checkpoints.

    Segments are of equal length where each has a checkpoint then; else each has as many checkpoints as another, as nearly as
    that can be, and ends midway between its last and the next one's first. Raises UserError if there are fewer checkpoints
    than segments.
    """
    epochs = sorted(set(epochs))
    if not 1 <= num_segments <= len(epochs):
        raise UserError(
            f"{num_segments} segments need at least as many checkpoints, and at least 1 is needed; up to epoch {epochs[-1]} "
            f"there are {len(epochs)}: lower num_segments, or train with more --early_epochs"
        )
    ends = [epochs[-1] * number / num_segments for number in range(1, num_segments + 1)]
    if not all(_between(epochs, start, end) for start, end in zip([0, *ends], ends, strict=False)):
        last = [round(len(epochs) * number / num_segments) for number in range(1, num_segments)]
        ends = [(epochs[place - 1] + epochs[place]) / 2 for place in last] + [epochs[-1]]
    a_epoch, start, found = plan.steps_per_epoch(num_train), 0.0, []
    for end in ends:
        steps = range(round(start * a_epoch) + 1, round(end * a_epoch) + 1)
        rates = sum(plan.rate(step, plan.epochs * a_epoch) for step in steps) / (1 - (plan.momentum or 0.0))
        found.append(Segment(_between(epochs, start, end), len(steps), rates))
        start = end
    return found


def _between(epochs: Sequence[int], start: float, end: float) -> tuple[int, ...]:
    # The ends are fractions; their rounding errors must not move an epoch across one.
    return tuple(epoch for epoch in epochs if start + 1e-9 < epoch <= end + 1e-9)
