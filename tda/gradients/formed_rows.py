"""Rows of per-example gradients, formed.

A row is the gradient of one quantity of one example; with R quantities, rows i * R to i * R + R - 1 belong to example i.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

_STRIP_ROWS = 128
"""Fewest rows of a symmetric matrix that are computed at once: below, the products are too thin for the processor."""


@dataclass(frozen=True)
class FormedRows:
    """A layer's gradients, formed.

    parts: parameter name -> (rows, numel), absent where every row is zero; shapes: parameter name -> the parameter's shape;
    count: number of rows. With groups, a weight of shape (groups * out, in, *kernel) is flattened as (groups, *kernel, in,
    out), the order in which it is cheapest to form. Inner products are the number 0 where no part is there.
    """

    parts: dict[str, Tensor]
    shapes: dict[str, torch.Size]
    count: int
    groups: int | None = None

    @staticmethod
    def of_gradients(gradients: dict[str, Tensor], count: int, groups: int | None = None) -> "FormedRows":
        """Rows of gradients by parameter name, (rows, *shape) each, in the order of flattening that goes with groups."""
        shapes = {name: gradient.shape[1:] for name, gradient in gradients.items()}
        rows = FormedRows({}, shapes, count, groups)
        return replace(rows, parts={name: rows._flattened(gradient) for name, gradient in gradients.items()})

    def tensors(self) -> list[Tensor]:
        """Every tensor that is held."""
        return list(self.parts.values())

    def inner(self, other: "FormedRows") -> Tensor:
        """Inner products with another block's rows: (rows, other rows)."""
        return sum(part @ other.parts[name].T for name, part in self.parts.items() if name in other.parts)

    def squared_norms(self) -> Tensor:
        """Squared Euclidean norm of each row: (rows,)."""
        return sum(torch.linalg.vector_norm(part, dim=1).square() for part in self.parts.values())

    def gradients(self) -> dict[str, Tensor]:
        """Parameter name -> (rows, *shape)."""
        return {name: self._unflattened(name, part) for name, part in self.parts.items()}

    def times(self, vectors: dict[str, Tensor]) -> Tensor:
        """Inner products with parameter-space vectors (k, *shape): (k, rows); a parameter without a vector counts as zero."""
        known = [name for name in self.parts if name in vectors]
        products = (self._flattened(vectors[name]) @ self.parts[name].T for name in known)
        return sum(products) if known else no_products(vectors, self.count)

    def gram(self) -> Tensor:
        """Inner products among the rows (rows, rows): half the work of inner, for the matrix is symmetric."""
        if not self.parts:
            return 0
        products = next(iter(self.parts.values())).new_empty(self.count, self.count)
        step = max(_STRIP_ROWS, self.count // 8)
        for start in range(0, self.count, step):
            rows, until = slice(start, start + step), slice(0, start + step)
            products[rows, until] = sum(part[rows] @ part[until].T for part in self.parts.values())
            products[:start, rows] = products[rows, :start].T
        return products

    def combined(self, weights: Tensor) -> dict[str, Tensor]:
        """Weighted sums of the rows, the transpose of times: weights (k, rows) -> parameter name -> (k, *shape)."""
        return {name: self._unflattened(name, weights @ part) for name, part in self.parts.items()}

    def chosen(self, positions: Tensor) -> "FormedRows":
        """The rows at the given positions (k,) int64."""
        return replace(self, parts={name: part[positions] for name, part in self.parts.items()}, count=len(positions))

    def examples(self, examples: Tensor, quantities: int) -> "FormedRows":
        """All rows of the examples at the given positions (k,) int64, of as many quantities each."""
        rows = (examples[:, None] * quantities + torch.arange(quantities, device=examples.device)).flatten()
        return self.chosen(rows)

    def joined(self, quantities: int) -> "FormedRows":
        """One row an example: those of its quantities end to end."""
        count = self.count // quantities
        return replace(self, parts={name: part.reshape(count, -1) for name, part in self.parts.items()}, count=count)

    def concatenated(self, others: "list[FormedRows]") -> "FormedRows":
        """These rows followed by those of the other blocks."""
        blocks, parts = [self, *others], {}
        for name in self.shapes:
            known = next((block.parts[name] for block in blocks if name in block.parts), None)
            if known is not None:
                width = known.shape[1]
                each = [block.parts.get(name) for block in blocks]
                zeros = (
                    known.new_zeros(block.count, width) if part is None else part
                    for block, part in zip(blocks, each, strict=True)
                )
                parts[name] = torch.cat(list(zeros))
        return replace(self, parts=parts, count=sum(block.count for block in blocks))

    def _unflattened(self, name: str, part: Tensor) -> Tensor:
        shape = self.shapes[name]
        if self.groups is not None and len(shape) > 1:
            outputs, inputs, *kernel = shape
            part = part.reshape(len(part), self.groups, *kernel, inputs, outputs // self.groups).movedim((-1, -2), (2, 3))
        return part.reshape(len(part), *shape)

    def _flattened(self, vectors: Tensor) -> Tensor:
        if self.groups is not None and vectors.dim() > 2:
            vectors = outputs_last(vectors, self.groups)
        return vectors.reshape(len(vectors), -1)


def outputs_last(weights: Tensor, groups: int) -> Tensor:
    """Weights (k, groups * out, in, *kernel) in the order (k, groups, *kernel, in, out)."""
    return weights.unflatten(1, (groups, -1)).movedim((2, 3), (-1, -2))


def no_products(vectors: dict[str, Tensor], count: int) -> Tensor:
    example = next(iter(vectors.values()))
    return example.new_zeros(len(example), count)
