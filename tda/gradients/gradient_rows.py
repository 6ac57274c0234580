"""Per-example gradients as rows of a matrix that is formed only where forming it is cheaper.

A row is the gradient of one quantity of one example; with R quantities, rows i * R to i * R + R - 1 belong to example i.
Each layer holds its columns of the matrix in one of the forms of formed_rows.py, factored_rows.py and tied_rows.py.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tda.gradients.factored_rows import FactoredRows
from tda.gradients.formed_rows import FormedRows
from tda.gradients.tied_rows import TiedRows

LayerRows = FormedRows | FactoredRows | TiedRows
"""A layer's columns of the matrix."""


@dataclass(frozen=True)
class GradientRows:
    """The gradients of a block of examples' quantities, each layer in its own form.

    layers: one entry per layer; values: the quantities (n, R) themselves; shapes: selected parameter name -> shape, in the
    model's order. A parameter that no layer holds has gradient zero. Two GradientRows fit each other if they come from the
    same plan.
    """

    layers: list[LayerRows]
    values: Tensor
    shapes: dict[str, torch.Size]

    @property
    def count(self) -> int:
        """Number of rows, n * R."""
        return self.values.numel()

    def inner(self, other: "GradientRows") -> Tensor:
        """Inner products of all selected parameters' gradients: (rows, other rows)."""
        products = (left.inner(right) for left, right in zip(self.layers, other.layers, strict=True))
        return sum(products, start=self.values.new_zeros(self.count, other.count))

    def squared_norms(self) -> Tensor:
        """Squared Euclidean norm of each gradient: (rows,)."""
        return sum((layer.squared_norms() for layer in self.layers), start=self.values.new_zeros(self.count))

    def gradients(self) -> dict[str, Tensor]:
        """Parameter name -> gradients (rows, *shape), formed."""
        found = {name: self.values.new_zeros(self.count, *shape) for name, shape in self.shapes.items()}
        for layer in self.layers:
            found |= layer.gradients()
        return found

    def dense(self, names: Collection[str] | None = None) -> Tensor:
        """Flattened gradients (rows, p), parameters in the order of names, by default the model's order."""
        gradients = self.gradients()
        chosen = self.shapes if names is None else names
        return torch.cat([gradients[name].reshape(self.count, -1) for name in chosen], dim=1)

    def times(self, vectors: dict[str, Tensor]) -> Tensor:
        """Inner products with vectors given as parameter name -> (k, *shape): (k, rows); a name left out counts as zero."""
        vector_count = len(next(iter(vectors.values())))
        return sum((layer.times(vectors) for layer in self.layers), start=self.values.new_zeros(vector_count, self.count))

    def gram(self) -> Tensor:
        """Inner products among these gradients: (rows, rows)."""
        return sum((layer.gram() for layer in self.layers), start=self.values.new_zeros(self.count, self.count))

    def combined(self, weights: Tensor) -> dict[str, Tensor]:
        """Weighted sums of the gradients, the transpose of times: weights (k, rows) -> parameter name -> (k, *shape)."""
        found = {name: self.values.new_zeros(len(weights), *shape) for name, shape in self.shapes.items()}
        for layer in self.layers:
            found |= layer.combined(weights)
        return found

    def chosen(self, positions: Tensor) -> "GradientRows":
        """The rows at the given positions (k,) int64, each as the only row of an example."""
        layers = [layer.chosen(positions) for layer in self.layers]
        return replace(self, layers=layers, values=self.values.flatten()[positions][:, None])

    def joined(self) -> "GradientRows":
        """One row an example, for inner products only: those of its R quantities' gradients, summed over quantities."""
        quantities = self.values[0].numel()
        layers = [layer.joined(quantities) for layer in self.layers]
        return replace(self, layers=layers, values=self.values.flatten(1).sum(dim=1))

    def size_in_bytes(self) -> int:
        """Memory that the rows hold."""
        return sum(tensor.numel() * tensor.element_size() for layer in self.layers for tensor in layer.tensors())


def joined_rows(blocks: list[GradientRows], examples: Tensor | None = None) -> GradientRows:
    """One GradientRows from blocks of the same plan, rows in the order of the blocks; a single block is returned as it is.

    examples: positions (n,) int64 among those of all blocks, in another order that they are to have. Empties the blocks of
    several layer by layer, so that the rows are never held twice: at most one layer more.
    """
    if len(blocks) == 1 and examples is None:
        return blocks[0]
    layers, values = [], torch.cat([block.values for block in blocks])
    for _ in range(len(blocks[0].layers)):
        first, *others = (block.layers.pop(0) for block in blocks)
        joined = first.concatenated(others)
        layers.append(joined if examples is None else _in_order(joined, examples, values.shape[1:].numel()))
        del first, others, joined
    return replace(blocks[0], layers=layers, values=values if examples is None else values[examples])


def _in_order(rows: LayerRows, examples: Tensor, quantities: int) -> LayerRows:
    """All rows of the examples at the given positions."""
    return rows.examples(examples, quantities) if isinstance(rows, FormedRows) else rows.examples(examples)
