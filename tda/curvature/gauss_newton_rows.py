"""Products with the Gauss-Newton matrix, and with its kernel, by the gradients of the curvature's roots.

With B a row for each training example and root, the matrix of the mean loss is B^T B / n, and its kernel B B^T / n has the same
eigenvalues. Neither is formed: a product is two passes over B's rows, which are held as small as they can be while they fit
HELD_BYTES, and are computed anew for each product where they do not.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from tda.curvature.products import Products, flatten
from tda.gradients.factored_rows import FactoredRows
from tda.gradients.gradient_rows import GradientRows, LayerRows

HELD_BYTES = 2**30

Blocks = Callable[[], Iterator[GradientRows]]
"""Gives B, block after block, each time it is called."""


def held_or_anew(blocks: Blocks) -> Blocks:
    """The same blocks, held if they fit HELD_BYTES."""
    held, size = [], 0
    for rows in blocks():
        rows = replace(rows, layers=[_smaller(layer) for layer in rows.layers])
        size += rows.size_in_bytes()
        if size > HELD_BYTES:
            return blocks
        held.append(rows)
    return lambda: iter(held)


def matrix_products(blocks: Blocks, num_examples: int, cut: Callable[[Tensor], dict[str, Tensor]]) -> Products:
    """The map from vectors (k, p) to B^T B v / n (k, p); cut: vectors as name -> (k, *shape), in the order of the rows'."""

    def product(vectors: Tensor) -> Tensor:
        named, total = cut(vectors), torch.zeros_like(vectors)
        for rows in blocks():
            total += flatten(rows.combined(rows.times(named)))
        return total / num_examples

    return product


def kernel_products(blocks: Blocks, num_examples: int, vectors_at_once: int) -> Products:
    """The map from weights of rows (k, rows) to B B^T w / n (k, rows), through so many vectors of parameter length at once."""

    def product(weights: Tensor) -> Tensor:
        lots = weights.split(vectors_at_once)
        return torch.cat([_times(blocks, combined(blocks, lot)) / num_examples for lot in lots])

    return product


def combined(blocks: Blocks, weights: Tensor) -> dict[str, Tensor]:
    """B^T w of weights (k, rows): name -> (k, *shape)."""
    total, start = {}, 0
    for rows in blocks():
        for name, part in rows.combined(weights[:, start : start + rows.count]).items():
            total[name] = total[name].add_(part) if name in total else part
        start += rows.count
    return total


def _times(blocks: Blocks, vectors: dict[str, Tensor]) -> Tensor:
    return torch.cat([rows.times(vectors) for rows in blocks()], dim=1)


def _smaller(rows: LayerRows) -> LayerRows:
    """The rows formed, where that is smaller, as for convolutions of few channels."""
    if not isinstance(rows, FactoredRows) or rows.holds_tokens:
        return rows
    entries = rows.count * (rows.weight_shape.numel() + (rows.bias_shape.numel() if rows.bias is not None else 0))
    return rows.formed() if rows.deltas.shape[3] > 1 and entries < rows.inputs.numel() + rows.deltas.numel() else rows
