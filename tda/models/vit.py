"""Vision transformers that are fine-tuned by LoRA from a frozen base model (Hu et al. 2022; Dosovitskiy et al. 2021).

A member is adapters and a classifier on top of a base that all members share. What the base computes before its first adapter
is computed once for each image, not in every pass.
"""

import copy
from functools import lru_cache

import torch
from torch import Tensor, nn

from tda.data.tasks import Task
from tda.models.fine_tuning import EMBEDDED_BASE, AdapterTuning
from tda.models.lora import LowRankClassifier, adapted
from tda.models.training_plan import TrainingPlan
from tda.models.vit_base import Base, load_base, normalisation, pixel_values
from tda.models.vit_pretraining import embedded_base

NUM_LOGITS = 10
"""Whatever the number of classes; a task of more classes has a logit for each."""
_IMAGES_AT_ONCE = 64


def build(fine_tuning: AdapterTuning, task: Task) -> LowRankClassifier:
    """A base with new adapters and a new classifier; the frozen weights are shared with every other model of it."""
    # Loading a base draws numbers, but once per process: what the seed fixes must not depend on that.
    with torch.random.fork_rng(devices=[]):
        sizes = (fine_tuning.rank, fine_tuning.alpha, fine_tuning.dropout, max(NUM_LOGITS, len(task.classes)))
        template = _template(base_of(fine_tuning, task), *sizes)
    model = copy.deepcopy(template)
    model.initialise()
    return model


def plan(fine_tuning: AdapterTuning, task: Task) -> TrainingPlan:
    """Adam at 1e-3 with linear decay, as published."""
    return TrainingPlan(
        epochs=task.epochs,
        linear_decay=True,
        random_crop=fine_tuning.random_crop,
        mixed_precision=fine_tuning.mixed_precision,
    )


def inputs(fine_tuning: AdapterTuning, task: Task, images: Tensor) -> Tensor:
    """What the model takes for the task's images (n, c, h, w): the base's embeddings (n, tokens, width) where they are fixed.

    With random crops, and for bases whose embeddings are of another form, pixel values (n, 3 or 1, size, size).
    """
    return _inputs(base_of(fine_tuning, task), fine_tuning.random_crop, task.kind.mean, task.kind.std, images)


def pixels(fine_tuning: AdapterTuning, task: Task, images: Tensor) -> tuple[Tensor, list[float], list[float]]:
    """Pixel values (n, 3 or 1, size, size), which the model takes as well, and the mean and std they were normalised with."""
    base = base_of(fine_tuning, task)
    return _inputs(base, True, task.kind.mean, task.kind.std, images), *normalisation(base)


def origin(fine_tuning: AdapterTuning, task: Task) -> dict:
    """The choices of fine-tuning and the hash of the base's weights."""
    return fine_tuning.as_dict() | {"base_sha256": base_of(fine_tuning, task).sha256}


def base_of(fine_tuning: AdapterTuning, task: Task) -> Base:
    """The base model; the embedded one is pre-trained if it is not there yet. Raises UserError as load_base does."""
    return load_base(str(embedded_base(task)) if fine_tuning.base == EMBEDDED_BASE else fine_tuning.base)


@lru_cache(maxsize=4)
def _template(base: Base, rank: int, alpha: int, dropout: float, num_logits: int) -> nn.Module:
    return adapted(base, rank, alpha, dropout, num_logits)


# Every seed of an experiment asks for the inputs of the same two splits; a tensor is its own key.
@lru_cache(maxsize=2)
def _inputs(base: Base, whole_images: bool, mean: tuple[float, ...], std: tuple[float, ...], images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    found = []
    with torch.no_grad():
        for piece in images.split(_IMAGES_AT_ONCE):
            pixels = pixel_values(base, (piece * std + mean).clamp(0, 1))
            found.append(pixels if whole_images or not base.embeds_into_tokens else base.embeddings(pixels))
    return torch.cat(found)
