"""The study's networks."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tda.data.tasks import TASKS, task_named
from tda.models.families import FAMILIES, family_named, new_model
from tda.system.errors import UserError


@pytest.mark.parametrize(
    ("family", "task", "parameters"),
    [("cnn", "mnist3", 225_034), ("cnn", "cifar10", 259_914), ("cnn3", "digits3", 619_786), ("cnn3", "cifar10", 620_362)],
)
def test_number_of_parameters_and_logits(family: str, task: str, parameters: int):
    model = new_model(family_named(family), task_named(task), seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    size, channels = task_named(task).kind.size, task_named(task).kind.channels
    assert model(torch.zeros(2, channels, size, size)).shape == (2, 10)


@pytest.mark.parametrize("family", ["cnn", "cnn3"])
def test_a_task_of_more_than_ten_classes_has_a_logit_for_each(family: str):
    task = replace(TASKS["digits3"], classes=tuple(range(12)), class_names=tuple("abcdefghijkl"))
    assert new_model(family_named(family), task, 0)(torch.zeros(2, 1, 28, 28)).shape == (2, 12)


@pytest.mark.parametrize(
    ("family", "task", "smallest"),
    [("cnn", "digits3", 10), ("cnn", "cifar10", 16), ("cnn3", "digits3", 4), ("cnn3", "cifar10", 10)],
)
def test_images_too_small_for_the_layers_are_refused(family: str, task: str, smallest: int):
    def made(size: int) -> nn.Module:
        kind = replace(task_named(task).kind, size=size)
        return new_model(family_named(family), replace(task_named(task), kind=kind), seed=0)

    assert made(smallest)
    with pytest.raises(UserError, match=f"images of {smallest - 1} x {smallest - 1} pixels, as task {task} has, are too small"):
        made(smallest - 1)


def test_layers_of_the_two_layer_network():
    model = new_model(family_named("cnn"), task_named("cifar10"), seed=0)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [module.weight.shape for module in convolutions] == [(32, 3, 5, 5), (64, 32, 5, 5)]
    assert sum(isinstance(module, nn.MaxPool2d) for module in model.modules()) == 2
    assert sum(isinstance(module, nn.GELU) for module in model.modules()) == 3


def test_paddings_of_the_three_layer_network():
    for task, paddings in (("mnist3", [0, 2, 2]), ("cifar10", [0, 0, 2])):
        model = new_model(family_named("cnn3"), task_named(task), seed=0)
        found = [module.padding[0] for module in model.modules() if isinstance(module, nn.Conv2d)]
        assert found == paddings


def test_training_scripts_of_the_families():
    scripts = {"cnn": "run_cnn_training.py", "cnn3": "run_cnn_training.py", "vit": "run_vit_finetuning.py"}
    assert {name: family.training_script for name, family in FAMILIES.items() if name in scripts} == scripts


def test_unknown_model_lists_the_known_ones():
    with pytest.raises(UserError, match="unknown model resnet; known models are cnn, cnn3"):
        family_named("resnet")
