"""The study's two small convolutional networks (Nguyen, Seo and Oh 2023, appendix)."""

import torch
from torch import nn

from tda.data.tasks import Task
from tda.system.errors import UserError

NUM_LOGITS = 10
"""As in the study, whatever the number of classes; a task of more classes has a logit for each."""


def _convolution(inputs: int, outputs: int, kernel: int, padding: int = 0) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.GELU(), nn.MaxPool2d(2))


def _flat_size(convolutions: nn.Module, task: Task) -> int:
    size = task.kind.size
    try:
        with torch.no_grad():
            return convolutions(torch.zeros(1, task.kind.channels, size, size)).numel()
    except RuntimeError as error:
        raise UserError(
            f"images of {size} x {size} pixels, as task {task.name} has, are too small for this network's convolutions and "
            "poolings; give its kind a larger size, or choose --model mlp"
        ) from error


def _classifier(convolutions: nn.Sequential, task: Task, hidden: int) -> nn.Sequential:
    num_logits = max(NUM_LOGITS, len(task.classes))
    head = nn.Sequential(nn.Linear(_flat_size(convolutions, task), hidden), nn.GELU(), nn.Linear(hidden, num_logits))
    return nn.Sequential(convolutions, nn.Flatten(), head)


def two_layer_cnn(task: Task) -> nn.Sequential:
    """32 and 64 channels, a hidden layer of 128, ten logits: 225,034 parameters for 28x28x1, 259,914 for 32x32x3.

    Raises UserError for images below 10 pixels a side, 16 in colours.
    """
    kernel = 3 if task.kind.channels == 1 else 5
    convolutions = nn.Sequential(_convolution(task.kind.channels, 32, kernel), _convolution(32, 64, kernel))
    return _classifier(convolutions, task, hidden=128)


def three_layer_cnn(task: Task) -> nn.Sequential:
    """32, 64 and 128 channels, a hidden layer of 256, ten logits: 619,786 parameters for 28x28x1, 620,362 for 32x32x3.

    Raises UserError for images below 4 pixels a side, 10 in colours.
    """
    paddings = (0, 2, 2) if task.kind.channels == 1 else (0, 0, 2)
    channels = (task.kind.channels, 32, 64, 128)
    layers = [_convolution(channels[i], channels[i + 1], 3, paddings[i]) for i in range(3)]
    return _classifier(nn.Sequential(*layers), task, hidden=256)
