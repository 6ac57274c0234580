"""Inner products of all training and test gradients through the inverse of EK-FAC's curvature.

g_train^T (U (L + damping) U^T)^-1 g_test, layer by layer. Where the rotated gradients of one side fit in memory they are held,
formed. Those of a large language model do not, 340 MB an example for GPT-2 small; then inputs and output gradients of the
smaller side are held, and a few examples' gradients of one layer are formed at a time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tda.curvature.factored_blocks import RotatedBlocks
from tda.curvature.kronecker_factors import LayerFactors
from tda.curvature.layer_bases import Sides
from tda.gradients.factored_rows import example_slices, formed_weight

HELD_NUMBERS = 2**28
"""Numbers of one side's gradients that are held at once."""

_FORMED_NUMBERS = 2**26
"""Numbers of a layer's formed gradients that are held at once on either side."""


def inverse_scores(
    factors: Sequence[LayerFactors], dampings: Sequence[float], train: RotatedBlocks, test: RotatedBlocks
) -> Tensor:
    """Scores (n_train, n_test) of the losses' gradients in the factors' bases; dampings: added to each layer's eigenvalues.

    A layer that no training example reaches, of which everything is 0, adds nothing.
    """
    inverses = [_inverse(layer.eigenvalues + added) for layer, added in zip(factors, dampings, strict=True)]
    size = sum(len(inverse) for inverse in inverses)
    few, many = (train, test) if len(train.split) <= len(test.split) else (test, train)
    if size * len(few.split) <= HELD_NUMBERS or size * 8 <= HELD_NUMBERS:
        scores = _formed(inverses, few, many, max(1, HELD_NUMBERS // size))
    else:
        scores = _layer_by_layer(inverses, few, many)
    return scores if few is train else scores.T


def _inverse(values: Tensor) -> Tensor:
    return torch.where(values > torch.finfo(values.dtype).tiny, 1 / values, 0)


def _formed(inverses: Sequence[Tensor], few: RotatedBlocks, many: RotatedBlocks, at_once: int) -> Tensor:
    """Scores (n_few, n_many), the gradients of so many examples of the few held, formed."""
    scores = []
    for positions in torch.arange(len(few.split)).split(at_once):
        blocks = [
            [formed_weight(*sides) * inverse for sides, inverse in zip(block, inverses, strict=True)]
            for block in few.part(positions)
        ]
        held = [torch.cat(parts) for parts in zip(*blocks, strict=True)]
        columns = [sum(left @ formed_weight(*sides).T for left, sides in zip(held, block, strict=True)) for block in many]
        scores.append(torch.cat(columns, dim=1))
    return torch.cat(scores)


def _layer_by_layer(inverses: Sequence[Tensor], few: RotatedBlocks, many: RotatedBlocks) -> Tensor:
    """Scores (n_few, n_many), the few examples' sides held, as many as fit."""
    first = next(iter(few.part(slice(0, 1))))
    numbers = sum(side.numel() for sides in first for side in sides)
    scores = []
    for positions in torch.arange(len(few.split)).split(max(1, HELD_NUMBERS // numbers)):
        held = list(few.part(positions))
        columns = []
        for block in many:
            columns.append(torch.cat([_products(lot, block, inverses) for lot in held]))
        scores.append(torch.cat(columns, dim=1))
    return torch.cat(scores)


def _products(left: Sequence[Sides], right: Sequence[Sides], inverses: Sequence[Tensor]) -> Tensor:
    """Scores between two blocks of examples, a few of which are formed at a time."""
    total = left[0][0].new_zeros(len(left[0][0]), len(right[0][0]))
    for own, other, inverse in zip(left, right, inverses, strict=True):
        for rows in example_slices(len(total), len(inverse), _FORMED_NUMBERS):
            formed = formed_weight(own[0][rows], own[1][rows]) * inverse
            for columns in example_slices(total.shape[1], len(inverse), _FORMED_NUMBERS):
                total[rows, columns] += formed @ formed_weight(other[0][columns], other[1][columns]).T
    return total
