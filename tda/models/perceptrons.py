"""The two small models of the field's public MNIST benchmarks."""

from torch import nn

from tda.data.tasks import Task


def _inputs(task: Task) -> int:
    return task.kind.channels * task.kind.size**2


def logistic_regression(task: Task) -> nn.Sequential:
    """A linear map from pixels to logits: 7,850 parameters for 28x28 and ten classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(_inputs(task), len(task.classes)))


def multilayer_perceptron(task: Task) -> nn.Sequential:
    """Hidden layers of 128 and 64 rectified units: 109,386 parameters for 28x28 and ten classes."""
    hidden = [nn.Linear(_inputs(task), 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, len(task.classes)))
