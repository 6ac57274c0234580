"""Rows of per-example gradients of a weight that an embedding and a linear layer share, as most language models have it.

The gradient is E + L: sum_t e_(x_t) d_t^T of the tokens x_t and the embedding's output gradients d_t, and sum_s b_s a_s^T of
the linear layer's inputs a_s and output gradients b_s, which have an entry for each token of the vocabulary. An inner product
of two rows has, beside E . E' and L . L', the mixed terms E . L' = sum_{t, s} b'_s[x_t] (d_t . a'_s), for which no gradient is
formed either.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tda.gradients.factored_rows import FactoredRows, example_slices
from tda.gradients.formed_rows import FormedRows


@dataclass(frozen=True)
class TiedRows:
    """The gradients of a tied weight (vocabulary, width), a row for each quantity of each example.

    tokens: the embedding's part; linear: the linear layer's, without a bias.
    """

    tokens: FactoredRows
    linear: FactoredRows

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.tokens.count

    def tensors(self) -> list[Tensor]:
        """Every tensor that is held."""
        return [*self.tokens.tensors(), *self.linear.tensors()]

    def inner(self, other: "TiedRows") -> Tensor:
        """Inner products with another block's rows: (rows, other rows)."""
        alike = self.tokens.inner(other.tokens) + self.linear.inner(other.linear)
        return alike + _mixed(self.tokens, other.linear) + _mixed(other.tokens, self.linear).T

    def squared_norms(self) -> Tensor:
        """Squared Euclidean norm of each row: (rows,)."""
        alike = self.tokens.squared_norms() + self.linear.squared_norms()
        return alike + 2 * torch.cat([_mixed_of_own(*pair) for pair in self._chunks()])

    def gradients(self) -> dict[str, Tensor]:
        """Parameter name -> (rows, *shape)."""
        return _added(self.tokens.gradients(), self.linear.gradients())

    def formed(self) -> FormedRows:
        """The same rows, formed."""
        return FormedRows.of_gradients(self.gradients(), self.count)

    def times(self, vectors: dict[str, Tensor]) -> Tensor:
        """Inner products with parameter-space vectors (k, *shape): (k, rows); a parameter without a vector counts as zero."""
        return self.tokens.times(vectors) + self.linear.times(vectors)

    def gram(self) -> Tensor:
        """Inner products among the rows: (rows, rows)."""
        mixed = _mixed(self.tokens, self.linear)
        return self.tokens.gram() + self.linear.gram() + mixed + mixed.T

    def combined(self, weights: Tensor) -> dict[str, Tensor]:
        """Weighted sums of the rows, the transpose of times: weights (k, rows) -> parameter name -> (k, *shape)."""
        return _added(self.tokens.combined(weights), self.linear.combined(weights))

    def chosen(self, positions: Tensor) -> "TiedRows":
        """The rows at the given positions (k,) int64, each as a row of an example of its own."""
        return TiedRows(self.tokens.chosen(positions), self.linear.chosen(positions))

    def examples(self, examples: Tensor) -> "TiedRows":
        """All rows of the examples at the given positions (k,) int64."""
        return TiedRows(self.tokens.examples(examples), self.linear.examples(examples))

    def joined(self, quantities: int) -> "TiedRows":
        """One row an example, for inner products only: those of its quantities end to end."""
        return TiedRows(self.tokens.joined(quantities), self.linear.joined(quantities))

    def concatenated(self, others: "list[TiedRows]") -> "TiedRows":
        """These rows followed by those of the other blocks."""
        tokens = self.tokens.concatenated([other.tokens for other in others])
        return TiedRows(tokens, self.linear.concatenated([other.linear for other in others]))

    def of_example(self, gradients: dict[str, Tensor]) -> "TiedRows":
        """Rows in this form of a single example whose R gradients (R, *shape) are given by parameter name."""
        tokens, linear = self.tokens.of_example(gradients), self.linear
        linear = replace(linear, inputs=linear.inputs[:1, :, :0], deltas=linear.deltas[:1, :, :, :0])
        return TiedRows(tokens, linear)

    def _chunks(self) -> Iterator[tuple[FactoredRows, FactoredRows]]:
        pairs = self.tokens.deltas.shape[3] * self.linear.deltas[0, :, 0, :, 0].numel()
        for part in example_slices(len(self.tokens.inputs), pairs):
            yield self.tokens.examples(part), self.linear.examples(part)


def tied(parts: Sequence[FactoredRows]) -> FactoredRows | TiedRows:
    """The rows of one weight from those of every module that holds it, embeddings and linear layers."""
    tokens, linear = ([part for part in parts if part.holds_tokens == kind] for kind in (True, False))
    joined = [_side_by_side(kind) for kind in (tokens, linear) if kind]
    return TiedRows(*joined) if len(joined) == 2 else joined[0]


def _side_by_side(parts: list[FactoredRows]) -> FactoredRows:
    """One block of rows, for which what one module did to an example is further positions beside another's."""
    inputs, deltas = torch.cat([part.inputs for part in parts], dim=2), torch.cat([part.deltas for part in parts], dim=3)
    return replace(parts[0], inputs=inputs, deltas=deltas)


def _mixed(tokens: FactoredRows, linear: FactoredRows) -> Tensor:
    """E . L' of every row of tokens with every row of a linear layer: (rows, other rows)."""
    positions = tokens.deltas[0, :, 0, :, 0].numel() * linear.deltas[0, :, 0, :, 0].numel() * _ways(tokens)
    lefts = list(example_slices(len(tokens.inputs), positions * min(len(linear.inputs), 16)))
    rights = list(example_slices(len(linear.inputs), positions * lefts[0].stop))
    strips = (
        torch.cat([_mixed_of_chunk(tokens.examples(left), linear.examples(right)) for right in rights], dim=1) for left in lefts
    )
    return torch.cat(list(strips))


def _mixed_of_chunk(tokens: FactoredRows, linear: FactoredRows) -> Tensor:
    words, (outputs, answers) = tokens.inputs[:, 0], _by_quantity(tokens, linear)
    products = torch.einsum("nrtjw,msw->nrtjms", outputs, linear.inputs[:, 0])
    found = torch.einsum("nrtjms,mqsjnt->nrmq", products, answers[..., words])
    return found.reshape(tokens.count, linear.count)


def _mixed_of_own(tokens: FactoredRows, linear: FactoredRows) -> Tensor:
    """E . L of each row with itself: (rows,)."""
    words, (outputs, answers) = tokens.inputs[:, 0], _by_quantity(tokens, linear)
    products = torch.einsum("nrtjw,nsw->nrsjt", outputs, linear.inputs[:, 0])
    places = words[:, None, None, None].expand(*answers.shape[:-1], words.shape[1])
    return (products * answers.gather(-1, places)).sum(dim=(2, 3, 4)).flatten()


def _by_quantity(tokens: FactoredRows, linear: FactoredRows) -> tuple[Tensor, Tensor]:
    """Output gradients (n, R, T, J, width) and (m, R', S, J, vocabulary), J being the quantities that were joined."""
    vocabulary, width = tokens.weight_shape
    outputs, answers = tokens.deltas[:, :, 0], linear.deltas[:, :, 0]
    return outputs.unflatten(-1, (-1, width)), answers.unflatten(-1, (-1, vocabulary))


def _ways(tokens: FactoredRows) -> int:
    return tokens.deltas.shape[-1] // tokens.weight_shape[1]


def _added(left: dict[str, Tensor], right: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: part + right[name] for name, part in left.items()}
