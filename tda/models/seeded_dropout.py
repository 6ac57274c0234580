"""Dropout whose masks come from a generator that the training step sets."""

import torch
from torch import Tensor, nn


class SeededDropout(nn.Module):
    """Dropout with probability `p`, its masks drawn from a generator that StepNoise sets; the identity in evaluation mode."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Zero a share of the inputs and scale the others up, shapes unchanged."""
        if not self.training or self.p == 0:
            return inputs
        drawn = torch.rand(inputs.shape, generator=self.generator, device=inputs.device)
        return inputs * (drawn >= self.p) / (1 - self.p)
