"""The registry of model families. Adding a family is adding one entry to FAMILIES."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from tda.errors import UserError
from tda.models.cnn import three_layer_cnn, two_layer_cnn
from tda.seeds import stream_seed
from tda.tasks import Task
from tda.training_plan import TrainingPlan


@dataclass(frozen=True)
class ModelFamily:
    """A way to build and train models.

    build: (task) -> untrained module that maps images (b, c, h, w) to logits (b, classes); draws from torch's global
    generator. Its parameters with requires_grad are what is trained, kept and attributed to.
    training_script: the script that makes members, named in error messages.
    """

    name: str
    title: str
    build: Callable[[Task], nn.Module]
    plan: Callable[[Task], TrainingPlan]
    training_script: str


def _cnn_plan(task: Task) -> TrainingPlan:
    return TrainingPlan(epochs=task.epochs)


_ENTRIES = (
    ModelFamily("cnn", "two-layer CNN", two_layer_cnn, _cnn_plan, "run_cnn_training.py"),
    ModelFamily("cnn3", "three-layer CNN", three_layer_cnn, _cnn_plan, "run_cnn_training.py"),
)
FAMILIES = {family.name: family for family in _ENTRIES}


def family_named(name: str) -> ModelFamily:
    """Look a family up; raises UserError, which lists the known ones."""
    if name not in FAMILIES:
        raise UserError(f"unknown model {name}; known models are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def new_model(family: ModelFamily, task: Task, seed: int) -> nn.Module:
    """The untrained model on the CPU, initialised from the seed's own stream; torch's global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "initialisation"))
        return family.build(task)
