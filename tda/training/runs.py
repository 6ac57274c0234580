"""What travels in and out of training many models: runs, evaluations and snapshots."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from tda.models.model_state import ModelState


@dataclass(frozen=True)
class Run:
    """One model's training.

    batches: training positions (b,) int64 of each step; the loss of a step is the weighted sum over the batch divided
    by b, so that a removed example's term is missing and nothing else changes.
    snapshots: the numbers of steps after which the model is looked at.
    weights: (n_train,) float32, 1 = counts, 0 = removed; None counts all.
    seed: what the steps draw (dropout, crops) comes from this seed's streams, the same whatever is removed. None: a step that
    a score takes, which draws nothing; see TrainingPlan for what else sets it apart.
    """

    start: ModelState
    batches: Sequence[Tensor]
    snapshots: Sequence[int]
    weights: Tensor | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """Per example of a split, on the CPU: cross-entropy losses and margins (n,) float32, predictions (n, ...) int64."""

    losses: Tensor
    margins: Tensor
    predictions: Tensor


@dataclass(frozen=True)
class Snapshot:
    """A model after `step` steps: its state if states are kept, its evaluation if there was a split to evaluate on."""

    step: int
    state: ModelState | None
    evaluation: Evaluation | None
