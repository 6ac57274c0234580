"""How a model is trained: optimizer, rates, batches, and which epochs are kept."""

from dataclasses import asdict, dataclass

import torch

from tda.seeds import stream


@dataclass(frozen=True)
class TrainingPlan:
    """Adam with coupled weight decay on the mean cross-entropy of shuffled batches."""

    epochs: int
    learning_rate: float = 1e-3
    weight_decay: float = 5e-3
    batch_size: int = 32
    num_kept_epochs: int = 5

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
