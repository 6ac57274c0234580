"""Rows of per-example gradients of a linear layer, as its inputs a and output gradients d, formed only where that is cheaper.

The weight gradient is sum_t d_t a_t^T over positions t, so that an inner product of two rows is
sum_{t, s} (a_t . a'_s + 1) (d_t . d'_s), where the 1 is the bias.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from tda.gradients.formed_rows import FormedRows, no_products, outputs_last

_CHUNK_ELEMENTS = 2**21
"""Intermediate results are kept near this many numbers, about the size of a processor's cache."""


@dataclass(frozen=True)
class FactoredRows:
    """The gradients of a linear layer, a convolution or an embedding, as inputs and output gradients.

    inputs: (n, G, T, K) for G groups, T positions and K inputs per group, or int64 tokens (n, 1, T) of an embedding;
    deltas: (n, R, G, T, O), the gradients of the R quantities with respect to the O outputs per group;
    weight, bias: the parameters' names, bias None where there is none or it is not selected; weight_shape: (G * O, K...)
    or (vocabulary, O); turned: whether it is (K, O) instead, as transformers' Conv1D has it.
    """

    inputs: Tensor
    deltas: Tensor
    weight: str
    bias: str | None
    weight_shape: torch.Size
    turned: bool = False

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.deltas.shape[0] * self.deltas.shape[1]

    @property
    def holds_tokens(self) -> bool:
        """Whether they are an embedding's."""
        return not self.inputs.is_floating_point()

    @property
    def bias_shape(self) -> torch.Size:
        """What a bias of this layer has."""
        return self.weight_shape[1:] if self.turned else self.weight_shape[:1]

    def tensors(self) -> list[Tensor]:
        """Every tensor that is held."""
        return [self.inputs, self.deltas]

    def inner(self, other: "FactoredRows") -> Tensor:
        """Inner products with another block's rows: (rows, other rows)."""
        positions, other_positions = self.deltas[0, ..., 0].numel(), other.deltas[0, ..., 0].numel()
        other_slices = list(example_slices(len(other.inputs), positions * other_positions))
        pairs = positions * other_positions * (other_slices[0].stop - other_slices[0].start)
        strips = (
            torch.cat([self.examples(left)._inner_of_chunk(other.examples(right)) for right in other_slices], dim=1)
            for left in example_slices(len(self.inputs), pairs)
        )
        return torch.cat(list(strips))

    def paired(self, other: "FactoredRows") -> Tensor:
        """Inner product (rows,) of each row with the other block's row at its place, of linear layers and convolutions."""
        input_products = self.inputs @ other.inputs.mT + (self.bias is not None)
        return (input_products[:, None] * (self.deltas @ other.deltas.mT)).sum((2, 3, 4)).flatten()

    def squared_norms(self) -> Tensor:
        """Squared Euclidean norm of each row: (rows,)."""
        *_, positions, outputs = self.deltas.shape
        width = self.weight_shape[0] if self.holds_tokens else self.inputs.shape[-1]
        if positions * (width + outputs) > width * outputs:
            chunks = self._chunks(self.weight_shape.numel())
            return torch.cat([chunk.formed().squared_norms() for chunk in chunks])
        pairs = positions * self.deltas[0, ..., 0].numel()
        return torch.cat([chunk._squared_norms_of_chunk() for chunk in self._chunks(pairs)])

    def gradients(self) -> dict[str, Tensor]:
        """Parameter name -> (rows, *shape)."""
        return self.formed().gradients()

    def times(self, vectors: dict[str, Tensor]) -> Tensor:
        """Inner products with parameter-space vectors (k, *shape): (k, rows); a parameter without a vector counts as zero."""
        known = [vectors[name] for name in (self.weight, self.bias) if name in vectors]
        if not known:
            return no_products(vectors, self.count)
        vector_count = len(known[0])
        # Forming costs T + k products per entry of the weight, projecting the inputs costs T * k.
        if self.holds_tokens or self.inputs.shape[2] == 1 or vector_count == 1:
            chunks = self._chunks(vector_count * self.deltas[0, 0].numel())
            return torch.cat([chunk._times_by_projection(vectors) for chunk in chunks], dim=1)
        return torch.cat([chunk.formed().times(vectors) for chunk in self._chunks(self.weight_shape.numel())], dim=1)

    def gram(self) -> Tensor:
        """Inner products among the rows: (rows, rows)."""
        return self.inner(self)

    def combined(self, weights: Tensor) -> dict[str, Tensor]:
        """Weighted sums of the rows, the transpose of times: weights (k, rows) -> parameter name -> (k, *shape)."""
        if not self.holds_tokens and self.inputs.shape[2] == 1:
            return self._combined_before_forming(weights)
        total: dict[str, Tensor] = {}
        start = 0
        for chunk in self._chunks(self.weight_shape.numel()):
            # Added at once: kept, a large layer's sums of a few examples each would outweigh the rows.
            for name, part in chunk.formed().combined(weights[:, start : start + chunk.count]).items():
                total[name] = total[name].add_(part) if name in total else part
            start += chunk.count
        return total

    def chosen(self, positions: Tensor) -> "FactoredRows":
        """The rows at the given positions (k,) int64, each as a row of an example of its own."""
        quantities = self.deltas.shape[1]
        examples = positions // quantities
        return replace(self, inputs=self.inputs[examples], deltas=self.deltas[examples, positions % quantities][:, None])

    def joined(self, quantities: int) -> "FactoredRows":
        """One row an example: those of its quantities end to end, as if they were outputs of one wider layer."""
        return replace(self, deltas=self.deltas.movedim(1, -2).flatten(-2)[:, None])

    def concatenated(self, others: "list[FactoredRows]") -> "FactoredRows":
        """These rows followed by those of the other blocks; fewer positions are filled up with some that count nothing."""
        blocks = [self, *others]
        longest = max(block.deltas.shape[3] for block in blocks)
        blocks = [block._filled_up(longest - block.deltas.shape[3]) for block in blocks]
        inputs, deltas = (torch.cat([getattr(block, part) for block in blocks]) for part in ("inputs", "deltas"))
        return replace(self, inputs=inputs, deltas=deltas)

    def of_example(self, gradients: dict[str, Tensor]) -> "FactoredRows":
        """Rows in this form of a single example whose R gradients (R, *shape) are given by parameter name."""
        weight = gradients[self.weight]
        if self.holds_tokens:
            tokens = weight.abs().sum(dim=(0, 2)).nonzero().flatten()
            return replace(self, inputs=tokens[None, None], deltas=weight[:, tokens][None, :, None])
        quantities, groups = len(weight), self.deltas.shape[2]
        matrices = self._matrices(weight)
        # As many positions as the matrix of inputs by quantities and outputs has directions.
        left, sizes, right = torch.linalg.svd(matrices.permute(1, 2, 0, 3).flatten(2), full_matrices=False)
        smallest = torch.finfo(sizes.dtype).eps * max(left.shape[1], right.shape[2]) * sizes.max()
        positions = int((sizes > smallest).sum(dim=1).max())
        inputs = left.mT[:, :positions]
        deltas = (sizes[..., None] * right)[:, :positions].unflatten(2, (quantities, -1)).permute(2, 0, 1, 3)
        if self.bias is not None:
            # A position without inputs makes up for what the others add to the bias.
            rest = gradients[self.bias].unflatten(1, (groups, 1, -1)) - deltas.sum(dim=2, keepdim=True)
            inputs, deltas = functional.pad(inputs, (0, 0, 0, 1)), torch.cat([deltas, rest], dim=2)
        return replace(self, inputs=inputs[None], deltas=deltas[None])

    def formed(self) -> FormedRows:
        """The same rows, formed."""
        if self.holds_tokens:
            return FormedRows({self.weight: self._formed_token_weight()}, {self.weight: self.weight_shape}, self.count)
        parts = {self.weight: formed_weight(self.inputs, self.deltas)}
        if self.bias is not None:
            parts[self.bias] = formed_bias(self.deltas)
        return self._of_parts(parts, self.count)

    def _of_parts(self, parts: dict[str, Tensor], count: int) -> FormedRows:
        """Formed rows of this layer's parts, the weight's (rows, G * K * O)."""
        shapes = {self.weight: self.weight_shape} | ({} if self.bias is None else {self.bias: self.bias_shape})
        return FormedRows(parts, shapes, count, None if self.turned else self.deltas.shape[2])

    def _matrices(self, weights: Tensor) -> Tensor:
        """Weights (k, *weight_shape) as (k, G, K, O)."""
        return weights[:, None] if self.turned else outputs_last(weights, self.deltas.shape[2]).flatten(2, -2)

    def _filled_up(self, positions: int) -> "FactoredRows":
        if not positions:
            return self
        along = (0, positions) if self.holds_tokens else (0, 0, 0, positions)
        inputs, deltas = functional.pad(self.inputs, along), functional.pad(self.deltas, (0, 0, 0, positions))
        return replace(self, inputs=inputs, deltas=deltas)

    def examples(self, examples: slice | Tensor) -> "FactoredRows":
        """The rows of some of the examples, by a slice or their positions (k,) int64."""
        return replace(self, inputs=self.inputs[examples], deltas=self.deltas[examples])

    def _chunks(self, elements_per_example: int) -> "Iterator[FactoredRows]":
        return (self.examples(examples) for examples in example_slices(len(self.inputs), elements_per_example))

    def _combined_before_forming(self, weights: Tensor) -> dict[str, Tensor]:
        """A position's gradient is an outer product, so that the weights may be applied to its output side alone."""
        # For every vector of weights that is a copy of the output side, gigabytes for hundreds of them.
        lots = example_slices(len(weights), self.deltas[:, 0].numel())
        found = [self._weighted_sums(weights[lot]) for lot in lots]
        return {name: torch.cat([sums[name] for sums in found]) for name in found[0]}

    def _weighted_sums(self, weights: Tensor) -> dict[str, Tensor]:
        by_example = weights.unflatten(1, self.deltas.shape[:2])
        deltas = torch.einsum("knr,nrgto->nkgto", by_example, self.deltas)
        parts = {self.weight: torch.einsum("ngti,nkgto->kgio", self.inputs, deltas).flatten(1)}
        if self.bias is not None:
            parts[self.bias] = deltas.sum(dim=(0, 3)).flatten(1)
        return self._of_parts(parts, len(weights)).gradients()

    def _formed_token_weight(self) -> Tensor:
        count, quantities, _, positions, outputs = self.deltas.shape
        rows = torch.arange(self.count, device=self.inputs.device).reshape(count, quantities, 1)
        entries = (rows * self.weight_shape[0] + self.inputs).flatten()
        weight = self.deltas.new_zeros(self.count * self.weight_shape[0], outputs)
        return weight.index_add_(0, entries, self.deltas.reshape(-1, outputs)).reshape(self.count, -1)

    def _inner_of_chunk(self, other: "FactoredRows") -> Tensor:
        if self.holds_tokens:
            left, right = self.inputs.transpose(0, 1), other.inputs.transpose(0, 1)
            input_products = left[:, :, :, None, None] == right[:, None, None]
        else:
            left, right = self.inputs.transpose(0, 1).flatten(1, 2), other.inputs.transpose(0, 1).flatten(1, 2)
            input_products = left @ right.mT
            if self.bias is not None:
                input_products += 1
        count, quantities, groups, positions, _ = self.deltas.shape
        other_count, other_quantities, _, other_positions, _ = other.deltas.shape
        input_products = input_products.reshape(groups, count, 1, positions, other_count, 1, other_positions)
        delta_products = self._deltas_by_group() @ other._deltas_by_group().mT
        shape = (groups, count, quantities, positions, other_count, other_quantities, other_positions)
        return (delta_products.reshape(shape) * input_products).sum(dim=(0, 3, 6)).reshape(self.count, other.count)

    def _deltas_by_group(self) -> Tensor:
        return self.deltas.permute(2, 0, 1, 3, 4).flatten(1, 3)

    def _squared_norms_of_chunk(self) -> Tensor:
        if self.holds_tokens:
            input_products = self.inputs[..., :, None] == self.inputs[..., None, :]
        else:
            input_products = self.inputs @ self.inputs.mT
            if self.bias is not None:
                input_products += 1
        return (self.deltas @ self.deltas.mT * input_products[:, None]).sum(dim=(2, 3, 4)).flatten()

    def _times_by_projection(self, vectors: dict[str, Tensor]) -> Tensor:
        products = self.deltas.new_zeros(())
        if self.weight in vectors:
            weights = vectors[self.weight]
            if self.holds_tokens:
                projected = weights[:, self.inputs]
            else:
                projected = torch.einsum("ngti,kgio->kngto", self.inputs, self._matrices(weights))
            products = products + torch.einsum("kngto,nrgto->knr", projected, self.deltas).flatten(1)
        if self.bias is not None and self.bias in vectors:
            products = products + vectors[self.bias] @ formed_bias(self.deltas).T
        return products


def formed_weight(inputs: Tensor, deltas: Tensor) -> Tensor:
    """Weight gradients sum_t a_t d_t^T of inputs (n, G, T, K) and deltas (n, R, G, T, O): (n * R, G * K * O)."""
    count, quantities, groups, positions, outputs = deltas.shape
    beside = deltas.permute(0, 2, 3, 1, 4).reshape(count, groups, positions, quantities * outputs)
    weight = (inputs.mT @ beside).unflatten(-1, (quantities, outputs))
    return weight.movedim(3, 1).reshape(count * quantities, -1)


def formed_bias(deltas: Tensor) -> Tensor:
    """Bias gradients of deltas (n, R, G, T, O): (n * R, G * O)."""
    return deltas.sum(dim=3).flatten(0, 1).flatten(1)


def example_slices(count: int, elements_per_example: int, elements: int | None = None) -> Iterator[slice]:
    """Parts of the examples whose intermediate results have so many elements at most, by default what suits a cache."""
    step = max(1, (elements or _CHUNK_ELEMENTS) // max(1, elements_per_example))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))
