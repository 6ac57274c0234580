"""Similarities in a contrastive model's own space: of the images alone, and of the texts alone; repsim is of both together.

They are what a person would try first to explain a pair: the training pairs that look alike, or say the like. Neither knows a
gradient, and a positive score says alike, not helpful.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tda.data.splits import Split
from tda.methods.registry import Attribution, per_member, register
from tda.system.errors import UserError
from tda.training.members import Member
from tda.training.study import Study

_SIGN = "positive = alike; whether they are of the same pair is not seen"
_AT_ONCE = 64


def _check(study: Study, seed_ids: Sequence[int], settings: dict) -> None:
    """Raise UserError unless the study's models embed images and texts."""
    if not study.task.objective.compares_examples:
        raise UserError(f"task {study.task.name} has no images with texts, whose embeddings this method compares")


@register(
    "image_similarity",
    "Similarity of images",
    "Radford et al. 2021",
    check=_check,
    sign=_SIGN,
    needs="images with texts",
    in_all=False,
)
@per_member
def image_similarity(member: Member, train: Split, test: Split) -> Attribution:
    """Cosine of the images' embeddings."""
    return Attribution(_cosines(member, train, test, 0))


@register(
    "caption_similarity",
    "Similarity of captions",
    "Radford et al. 2021",
    check=_check,
    sign=_SIGN,
    needs="images with texts",
    in_all=False,
)
@per_member
def caption_similarity(member: Member, train: Split, test: Split) -> Attribution:
    """Cosine of the texts' embeddings."""
    return Attribution(_cosines(member, train, test, 1))


def _cosines(member: Member, train: Split, test: Split, side: int) -> Tensor:
    left, right = member.remember(
        "embeddings of pairs", (train, test), lambda: [_embedded(member, one) for one in (train, test)]
    )
    return (left[side] @ right[side].T).clamp(-1, 1)


def _embedded(member: Member, split: Split) -> tuple[Tensor, ...]:
    """Unit vectors (n, d) of images and of texts."""
    with torch.no_grad():
        found = [member.model.embeddings(inputs) for inputs, _ in split.batches(_AT_ONCE)]
    return tuple(torch.cat(side) for side in zip(*found, strict=True))
