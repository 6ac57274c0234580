"""A residual network of nine layers, as the field attributes CIFAR-2 with."""

import torch
from torch import Tensor, nn

from tda.data.tasks import Task


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    layers = (nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
    return nn.Sequential(*layers)


class _Residual(nn.Module):
    """x + two convolutions of x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(_convolution(channels, channels), _convolution(channels, channels))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.convolutions(inputs)


class _SpatialMaximum(nn.Module):
    """The largest value of each channel: (b, c, h, w) -> (b, c)."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.amax(inputs, dim=(2, 3))


def residual_network(task: Task) -> nn.Sequential:
    """Eight convolutions with batch normalisation and one linear layer: 4.8 million parameters for 32x32x3."""
    widths = (64, 128, 256, 420)
    return nn.Sequential(
        _convolution(task.kind.channels, widths[0]),
        _convolution(widths[0], widths[1], stride=2),
        _Residual(widths[1]),
        _convolution(widths[1], widths[2], stride=2),
        _convolution(widths[2], widths[3], stride=2),
        _Residual(widths[3]),
        _SpatialMaximum(),
        nn.Linear(widths[3], len(task.classes)),
    )
