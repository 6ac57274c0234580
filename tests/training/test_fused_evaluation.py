"""The fused forward pass gives what the model gives."""

from collections.abc import Callable

import pytest
import torch
from tiny_texts import LanguageModel, TextClassifier, encode
from torch import Tensor, nn

from tda.data.tasks import task_named
from tda.models.families import FAMILIES, new_model
from tda.training.fused_evaluation import forward_of


def random_images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def calls_of(model: nn.Module, forward: Callable[[Tensor], Tensor], images: Tensor) -> int:
    """How often a forward pass calls the model itself, which a fused one does not."""
    calls = []
    hook = model.register_forward_hook(lambda *arguments: calls.append(1))
    forward(images)
    hook.remove()
    return len(calls)


@pytest.mark.parametrize("name", ["cnn", "cnn3"])
@pytest.mark.parametrize("task", ["digits3", "cifar10"])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_networks_of_the_study(name: str, task: str, memory_format: torch.memory_format) -> None:
    task = task_named(task)
    model = new_model(FAMILIES[name], task, seed=3).eval().to(memory_format=memory_format)
    images = random_images(5, task.kind.channels, task.kind.size, task.kind.size).to(memory_format=memory_format)
    forward = forward_of(model, images)
    assert calls_of(model, forward, images) == 0
    with torch.no_grad():
        torch.testing.assert_close(forward(images), model(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [nn.Conv2d(2, 4, 3, padding="same"), nn.GELU(), nn.MaxPool2d(2)],
        lambda: [nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), nn.GELU(), nn.MaxPool2d(3, 1)],
        lambda: [nn.Conv2d(2, 4, 3, stride=2, groups=2, bias=False), nn.GELU(), nn.MaxPool2d(2, padding=1)],
        lambda: [nn.Conv2d(2, 4, 3, dilation=2), nn.GELU(approximate="tanh"), nn.MaxPool2d(2, ceil_mode=True)],
        lambda: [nn.Conv2d(2, 4, (3, 1), padding=(2, 1)), nn.GELU(), nn.Sequential(nn.MaxPool2d((2, 2)), nn.ReLU())],
    ],
)
def test_other_layers(layers: Callable[[], list[nn.Module]]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(*layers()).eval()
    images = random_images(3, 2, 9, 11)
    with torch.no_grad():
        torch.testing.assert_close(forward_of(model, images)(images), model(images), rtol=1e-5, atol=1e-6)


def test_what_is_not_known_is_left_to_the_model() -> None:
    model, images = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU()), random_images(2, 1, 5, 5)
    assert calls_of(model, forward_of(model, images), images) == 0
    model, images = model.double(), images.double()
    assert calls_of(model, forward_of(model, images), images) == 1
    assert torch.equal(forward_of(model, images)(images), model(images))
    wrapped = nn.Flatten()
    assert calls_of(wrapped, forward_of(wrapped, images), images) == 1


def test_texts_are_left_to_the_model() -> None:
    texts = encode(["the cat sleeps", "a dog runs fast"])
    for model in (TextClassifier(), LanguageModel()):
        forward = forward_of(model, texts)
        assert calls_of(model, forward, texts) == 1 and torch.equal(forward(texts), model(**texts))


def test_not_a_number_stays_one() -> None:
    model, images = nn.Sequential(nn.MaxPool2d(2)), torch.full((1, 1, 2, 2), torch.nan)
    assert torch.isnan(forward_of(model, images)(images)).all()
