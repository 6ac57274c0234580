"""Directions in parameter space, one for each image: tensors, or sums of outer products where those take less room.

The gradient of a linear layer's weight is a sum of outer products over its tokens, and so is a combination of two gradients:
for the hidden layer of a small CNN that is 1,728 numbers an image instead of 204,800.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Outer:
    """Directions of a linear layer's weight and bias, held as sums of outer products: deltas^T inputs, and the deltas' sum.

    inputs (b, t, i), deltas (b, t, o): a gradient has as many terms t as the layer has tokens.
    """

    inputs: Tensor
    deltas: Tensor
    with_bias: bool


Directions = dict[str, "Tensor | Outer"]
"""Trained parameter name -> (b, *shape), a direction in parameter space for each image; or an Outer under a weight's name."""


def rows_of(directions: Directions, rows: Tensor) -> Directions:
    """The directions of the images at positions (k,)."""
    return _mapped(lambda part: part[rows], directions)


def concatenated(blocks: Sequence[Directions]) -> Directions:
    """The directions of several blocks of images, one after another."""
    return _mapped(lambda *parts: torch.cat(parts), *blocks)


def spread_out(directions: Directions, places: Tensor, count: int) -> Directions:
    """Directions of `count` images: the given ones at positions (k,), zero elsewhere."""
    return _mapped(lambda part: part.new_zeros(count, *part.shape[1:]).index_copy(0, places.to(part.device), part), directions)


def inner(left: Directions, right: Directions) -> Tensor:
    """Inner product (b,) of each image's directions."""
    return sum(_inner(left[name], right[name]) for name in left)


def combined(left: Directions, left_factors: Tensor, right: Directions, right_factors: Tensor) -> Directions:
    """left_factors * left + right_factors * right, factors (b,)."""
    found: Directions = {}
    for name, part in left.items():
        other = right[name]
        if isinstance(part, Outer):
            deltas = torch.cat([_scaled(part.deltas, left_factors), _scaled(other.deltas, right_factors)], dim=1)
            found[name] = Outer(torch.cat([part.inputs, other.inputs], dim=1), deltas, part.with_bias)
        else:
            found[name] = _scaled(part, left_factors) + _scaled(other, right_factors)
    return found


def _mapped(function: Callable[..., Tensor], *directions: Directions) -> Directions:
    found: Directions = {}
    for name, first in directions[0].items():
        parts = [each[name] for each in directions]
        if isinstance(first, Outer):
            inputs, deltas = (function(*(getattr(part, field) for part in parts)) for field in ("inputs", "deltas"))
            found[name] = Outer(inputs, deltas, first.with_bias)
        else:
            found[name] = function(*parts)
    return found


def _inner(left: "Tensor | Outer", right: "Tensor | Outer") -> Tensor:
    if isinstance(left, Outer):
        weights = left.inputs @ right.inputs.mT + left.with_bias
        return (weights * (left.deltas @ right.deltas.mT)).sum((1, 2))
    return torch.linalg.vecdot(left.reshape(len(left), -1), right.reshape(len(right), -1))


def _scaled(tensor: Tensor, factors: Tensor) -> Tensor:
    return tensor * factors.view(-1, *[1] * (tensor.dim() - 1))
