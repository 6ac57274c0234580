"""Planted wrong labels, and whether self-influence finds them: how much an example helps its own (wrong) label."""

from dataclasses import replace

import torch
from torch import Tensor

from tda.data.splits import Split
from tda.methods.registry import Method
from tda.system.errors import UserError
from tda.system.random_streams import stream
from tda.training.members import Member


def flip_labels(split: Split, share: float, num_classes: int) -> tuple[Split, Tensor]:
    """A split in which a share of the labels is another class's, and which they are (n,) bool; always the same draw.

    Raises UserError if the share leaves no label right or none wrong, or if labels are no classes.
    """
    if split.labels.dim() != 1:
        raise UserError("labels can be flipped where an example has one class, and those of this task are tokens")
    count = round(share * len(split))
    if not 0 < count < len(split):
        raise UserError(f"--share {share} flips none or all of {len(split)} labels; choose a number between 0 and 1")
    generator = stream(0, "flipped labels")
    chosen = torch.randperm(len(split), generator=generator)[:count]
    labels, flipped = split.labels.clone(), torch.zeros(len(split), dtype=torch.bool)
    shift = torch.randint(1, num_classes, (count,), generator=generator)
    labels[chosen] = (labels[chosen] + shift) % num_classes
    flipped[chosen] = True
    return replace(split, labels=labels), flipped


def self_influence(method: Method, member: Member, train: Split) -> Tensor:
    """Each training example's score (n,) for itself, by a method's default settings."""
    (found,) = method.score([member], train, train, method.settings)
    return found.scores.diagonal()
