"""The fused forward pass gives what the model gives."""

import pytest
import torch
from torch import nn

from tda.data.tasks import task_named
from tda.models.families import FAMILIES, new_model
from tda.training.fused_evaluation import forward_of


@pytest.mark.parametrize("name", ["cnn", "cnn3"])
@pytest.mark.parametrize("task", ["digits3", "cifar10"])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_networks_of_the_study(name: str, task: str, memory_format: torch.memory_format) -> None:
    task = task_named(task)
    model = new_model(FAMILIES[name], task, seed=3).eval().to(memory_format=memory_format)
    images = torch.randn(5, task.channels, task.image_size, task.image_size).to(memory_format=memory_format)
    forward = forward_of(model, images)
    assert forward is not model
    with torch.no_grad():
        torch.testing.assert_close(forward(images), model(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(2, 4, 3, padding="same"), nn.GELU(), nn.MaxPool2d(2)],
        [nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), nn.GELU(), nn.MaxPool2d(3, 1)],
        [nn.Conv2d(2, 4, 3, stride=2, groups=2, bias=False), nn.GELU(), nn.MaxPool2d(2, padding=1)],
        [nn.Conv2d(2, 4, 3, dilation=2), nn.GELU(approximate="tanh"), nn.MaxPool2d(2, ceil_mode=True)],
        [nn.Conv2d(2, 4, (3, 1), padding=(2, 1)), nn.GELU(), nn.Sequential(nn.MaxPool2d((2, 2)), nn.ReLU())],
    ],
)
def test_other_layers(layers: list[nn.Module]) -> None:
    model, images = nn.Sequential(*layers).eval(), torch.randn(3, 2, 9, 11)
    with torch.no_grad():
        torch.testing.assert_close(forward_of(model, images)(images), model(images), rtol=1e-5, atol=1e-6)


def test_what_is_not_known_is_left_alone() -> None:
    model, images = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU()), torch.randn(2, 1, 5, 5)
    assert forward_of(model.double(), images.double()) is model
    wrapped = nn.Flatten()
    assert forward_of(wrapped, images) is wrapped


def test_not_a_number_stays_one() -> None:
    model, images = nn.Sequential(nn.MaxPool2d(2)), torch.full((1, 1, 2, 2), torch.nan)
    assert torch.isnan(forward_of(model, images)(images)).all()
