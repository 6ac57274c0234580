"""Directions in parameter space, one for each image: tensors, or factored rows where those take less room.

The gradient of a linear layer's weight is a sum of outer products over its positions, and so is a combination of two gradients:
for the hidden layer of a small CNN that is 1,728 numbers an image instead of 204,800.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tda.gradients.factored_rows import FactoredRows

Directions = dict[str, "Tensor | FactoredRows"]
"""Trained parameter name -> (b, *shape), a direction for each image; or a linear layer's rows, one an example with one group
and one quantity, under the name of its weight, which stand for its bias too."""


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
    directions: Directions = {}
    for name, part in left.items():
        other = right[name]
        if isinstance(part, FactoredRows):
            # A sum of two sums of outer products is one over both positions.
            deltas = torch.cat([_scaled(part.deltas, left_factors), _scaled(other.deltas, right_factors)], dim=3)
            directions[name] = replace(part, inputs=torch.cat([part.inputs, other.inputs], dim=2), deltas=deltas)
        else:
            directions[name] = _scaled(part, left_factors) + _scaled(other, right_factors)
    return directions


def _mapped(function: Callable[..., Tensor], *directions: Directions) -> Directions:
    changed: Directions = {}
    for name, first in directions[0].items():
        parts = [each[name] for each in directions]
        if isinstance(first, FactoredRows):
            inputs, deltas = (function(*(getattr(part, field) for part in parts)) for field in ("inputs", "deltas"))
            changed[name] = replace(first, inputs=inputs, deltas=deltas)
        else:
            changed[name] = function(*parts)
    return changed


def _inner(left: "Tensor | FactoredRows", right: "Tensor | FactoredRows") -> Tensor:
    if isinstance(left, FactoredRows):
        return left.paired(right)
    return torch.linalg.vecdot(left.reshape(len(left), -1), right.reshape(len(right), -1))


def _scaled(tensor: Tensor, factors: Tensor) -> Tensor:
    return tensor * factors.view(-1, *[1] * (tensor.dim() - 1))
