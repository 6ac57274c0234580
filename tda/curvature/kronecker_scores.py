"""Inner products of all training and test gradients through the inverse of EK-FAC's curvature.

g_train^T (U (L + damping) U^T)^-1 g_test, layer by layer. Where the rotated gradients of one side fit in memory they are held,
formed. Those of a large language model do not, 340 MB an example for GPT-2 small; then inputs and output gradients of the
smaller side are held, and a few examples' gradients of one layer are formed at a time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tda.curvature.kronecker_factors import LayerFactors, blocks_of_rows
from tda.data.splits import Split
from tda.gradients.factored_rows import FactoredRows, example_slices, formed_weight
from tda.gradients.gradient_plan import GradientPlan
from tda.gradients.quantities import Quantity

HELD_NUMBERS = 2**28
"""Numbers of one side's gradients that are held at once."""

_FORMED_NUMBERS = 2**26
"""Numbers of a layer's formed gradients that are held at once on either side."""

Sides = tuple[Tensor, Tensor]
"""A layer's inputs (n, G, T, k) and output gradients (n, 1, G, T, o) in the eigenbasis."""


def inverse_scores(
    plan: GradientPlan,
    factors: Sequence[LayerFactors],
    dampings: Sequence[float],
    train: Split,
    test: Split,
    loss: Quantity,
) -> Tensor:
    """Scores (n_train, n_test) of a factored plan's gradients of the loss; dampings: added to each layer's eigenvalues."""
    inverses = [1 / (layer.eigenvalues + added) for layer, added in zip(factors, dampings, strict=True)]
    size = sum(len(inverse) for inverse in inverses)
    few, many = (train, test) if len(train) <= len(test) else (test, train)
    if size * len(few) <= HELD_NUMBERS or size * 8 <= HELD_NUMBERS:
        scores = _formed(plan, factors, inverses, few, many, loss, max(1, HELD_NUMBERS // size))
    else:
        scores = _layer_by_layer(plan, factors, inverses, few, many, loss)
    return scores if few is train else scores.T


def _formed(
    plan: GradientPlan,
    factors: Sequence[LayerFactors],
    inverses: Sequence[Tensor],
    few: Split,
    many: Split,
    loss: Quantity,
    at_once: int,
) -> Tensor:
    """Scores (n_few, n_many), the gradients of so many examples of the few held, formed."""
    scores = []
    for positions in torch.arange(len(few)).split(at_once):
        blocks = [
            [layer.rotated(rows) * inverse for layer, rows, inverse in zip(factors, block, inverses, strict=True)]
            for block in blocks_of_rows(plan, few[positions], loss)
        ]
        held = [torch.cat(parts) for parts in zip(*blocks, strict=True)]
        columns = [
            sum(left @ layer.rotated(rows).T for left, layer, rows in zip(held, factors, block, strict=True))
            for block in blocks_of_rows(plan, many, loss)
        ]
        scores.append(torch.cat(columns, dim=1))
    return torch.cat(scores)


def _layer_by_layer(
    plan: GradientPlan,
    factors: Sequence[LayerFactors],
    inverses: Sequence[Tensor],
    few: Split,
    many: Split,
    loss: Quantity,
) -> Tensor:
    """Scores (n_few, n_many), the few examples' sides held, as many as fit."""
    first = next(blocks_of_rows(plan, few[:1], loss))
    numbers = sum(tensor.numel() for rows in first for tensor in rows.tensors())
    scores = []
    for positions in torch.arange(len(few)).split(max(1, HELD_NUMBERS // numbers)):
        held = [_rotated(factors, block) for block in blocks_of_rows(plan, few[positions], loss)]
        columns = []
        for block in blocks_of_rows(plan, many, loss):
            sides = _rotated(factors, block)
            columns.append(torch.cat([_products(lot, sides, inverses) for lot in held]))
        scores.append(torch.cat(columns, dim=1))
    return torch.cat(scores)


def _rotated(factors: Sequence[LayerFactors], block: Sequence[FactoredRows]) -> list[Sides]:
    return [layer.rotated_sides(rows) for layer, rows in zip(factors, block, strict=True)]


def _products(left: Sequence[Sides], right: Sequence[Sides], inverses: Sequence[Tensor]) -> Tensor:
    """Scores between two blocks of examples, a few of which are formed at a time."""
    total = left[0][0].new_zeros(len(left[0][0]), len(right[0][0]))
    for own, other, inverse in zip(left, right, inverses, strict=True):
        for rows in example_slices(len(total), len(inverse), _FORMED_NUMBERS):
            formed = formed_weight(own[0][rows], own[1][rows]) * inverse
            for columns in example_slices(total.shape[1], len(inverse), _FORMED_NUMBERS):
                total[rows, columns] += formed @ formed_weight(other[0][columns], other[1][columns]).T
    return total
