"""How a model is trained: optimizer, rates, batches, and which epochs are kept."""

from dataclasses import asdict, dataclass

import torch

from tda.seeds import stream


@dataclass(frozen=True)
class TrainingPlan:
    """Adam with coupled weight decay on the mean cross-entropy of shuffled batches.

    linear_decay: the rate falls to 0 over the training, without warm-up; random_crop: a training step sees a random crop of
    each image, resized; mixed_precision: a training step computes in bfloat16 where that is safe. All three concern whole
    trainings only: a single step that a score takes is at the full rate, on whole images, in float32.
    """

    epochs: int
    learning_rate: float = 1e-3
    weight_decay: float = 5e-3
    batch_size: int = 32
    num_kept_epochs: int = 5
    linear_decay: bool = False
    random_crop: bool = False
    mixed_precision: bool = False

    @property
    def same_step_throughout(self) -> bool:
        """Whether every training step is the plain one, whatever its place in the training."""
        return not (self.linear_decay or self.random_crop or self.mixed_precision)

    def rate(self, step: int, num_steps: int) -> float:
        """Learning rate of a training's step, counted from 1."""
        return self.learning_rate * (1 - (step - 1) / num_steps) if self.linear_decay else self.learning_rate

    @property
    def kept_epochs(self) -> list[int]:
        """The last epochs, counted from 1, whose checkpoints are kept."""
        return list(range(self.epochs + 1 - min(self.num_kept_epochs, self.epochs), self.epochs + 1))

    def steps_per_epoch(self, num_train: int) -> int:
        """Batches in an epoch; the last may be smaller."""
        return -(-num_train // self.batch_size)

    def batches(self, seed: int, num_train: int) -> list[torch.Tensor]:
        """Indices of every batch of the whole training, in the order that the seed's own stream fixes."""
        generator = stream(seed, "batch order")
        order = [torch.randperm(num_train, generator=generator) for _ in range(self.epochs)]
        return [batch for epoch in order for batch in epoch.split(self.batch_size)]

    def as_dict(self) -> dict:
        """Plain values for metadata."""
        return asdict(self)
