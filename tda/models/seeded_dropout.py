"""Dropout whose masks come from what the training step sets."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Source = Callable[[torch.Size, torch.device], Tensor]
"""From the shape of a layer's inputs and their device to numbers in [0, 1) that decide which of them are kept."""


class SeededDropout(nn.Module):
    """Dropout with probability `p`, decided by numbers of a source that StepNoise sets; the identity in evaluation mode."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.source: Source = _of_torch

    def forward(self, inputs: Tensor) -> Tensor:
        """Zero a share of the inputs and scale the others up, shapes unchanged."""
        if not self.training or self.p == 0:
            return inputs
        return inputs * (self.source(inputs.shape, inputs.device) >= self.p) / (1 - self.p)


def _of_torch(shape: torch.Size, device: torch.device) -> Tensor:
    return torch.rand(shape, device=device)
