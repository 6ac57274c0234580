"""Vision transformers that are fine-tuned by LoRA from a frozen base model (Hu et al. 2022; Dosovitskiy et al. 2021).

A member is adapters and a classifier on top of a base that all members share. What the base computes before its first adapter
is computed once for each image, not in every pass.
"""

import copy
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor, nn

from tda.fine_tuning import EMBEDDED_BASE, FineTuning
from tda.models.lora import LowRankClassifier, adapted
from tda.models.vit_base import Base, load_base, pixel_values
from tda.models.vit_pretraining import embedded_base
from tda.tasks import Task
from tda.training_plan import TrainingPlan

NUM_LOGITS = 10
_IMAGES_AT_ONCE = 64


def build(fine_tuning: FineTuning, task: Task) -> LowRankClassifier:
    """A base with new adapters and a new ten-way classifier; the frozen weights are shared with every other model of it."""
    base = base_of(fine_tuning, task)
    model = copy.deepcopy(_template(base, fine_tuning.rank, fine_tuning.alpha, fine_tuning.dropout))
    model.initialise()
    return model


def plan(fine_tuning: FineTuning, task: Task) -> TrainingPlan:
    """Adam at 1e-3 with linear decay, as published."""
    return TrainingPlan(
        epochs=task.epochs,
        linear_decay=True,
        random_crop=fine_tuning.random_crop,
        mixed_precision=fine_tuning.mixed_precision,
    )


def inputs(fine_tuning: FineTuning, task: Task, images: Tensor) -> Tensor:
    """What the model takes for the task's images (n, c, h, w): the base's embeddings (n, tokens, width) where they are fixed.

    With random crops, and for bases whose embeddings are of another form, pixel values (n, 3 or 1, size, size).
    """
    base = base_of(fine_tuning, task)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (task.mean, task.std))
    pieces = (pixel_values(base, (piece * std + mean).clamp(0, 1)) for piece in images.split(_IMAGES_AT_ONCE))
    if fine_tuning.random_crop or not base.embeds_into_tokens:
        return torch.cat(list(pieces))
    return torch.cat(list(_embedded(base, pieces)))


def origin(fine_tuning: FineTuning, task: Task) -> dict:
    """The choices of fine-tuning and the hash of the base's weights."""
    return fine_tuning.as_dict() | {"base_sha256": base_of(fine_tuning, task).sha256}


def base_of(fine_tuning: FineTuning, task: Task) -> Base:
    """The base model; the embedded one is pre-trained if it is not there yet. Raises UserError as load_base does."""
    return load_base(str(embedded_base(task)) if fine_tuning.base == EMBEDDED_BASE else fine_tuning.base)


@lru_cache(maxsize=4)
def _template(base: Base, rank: int, alpha: int, dropout: float) -> nn.Module:
    return adapted(base, rank, alpha, dropout, NUM_LOGITS)


def _embedded(base: Base, pieces: Iterator[Tensor]) -> Iterator[Tensor]:
    with torch.no_grad():
        for pixels in pieces:
            yield base.embeddings(pixels)
