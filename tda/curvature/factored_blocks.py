"""A data set's gradients as factors, block after block, as often as a method passes over them; what fits in memory is kept."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from torch import Tensor

from tda.curvature.layer_bases import LayerBasis, Sides
from tda.data.splits import Split
from tda.gradients.factored_rows import FactoredRows
from tda.gradients.gradient_kernel import examples_at_once
from tda.gradients.gradient_plan import GradientPlan
from tda.gradients.quantities import Quantity

KEPT_BYTES = 2**30
"""Memory of the blocks that are kept from one pass to the next."""


@dataclass(frozen=True)
class FactoredBlocks:
    """Every layer's gradients of the quantity, block after block of the examples, by a plan that holds them as factors.

    The first pass keeps the first blocks, up to so many bytes, for those that follow, which compute only the rest again.
    """

    plan: GradientPlan
    split: Split
    quantity: Quantity
    kept_bytes: int = KEPT_BYTES
    _kept: list[list[FactoredRows]] = field(default_factory=list, init=False, repr=False)

    def __iter__(self) -> Iterator[list[FactoredRows]]:
        """Blocks of the examples in order, a layer's rows after another's in each."""
        kept = sum(len(block[0].inputs) for block in self._kept)
        return _kept_and_new(self._kept, self.computed(kept), self.kept_bytes, lambda rows: rows.tensors())

    def computed(self, start: int) -> Iterator[list[FactoredRows]]:
        """The blocks of the examples from a place on, none of them kept."""
        rest = self.split[start:]
        if len(rest) == 0:
            return
        example_bytes = self.plan.example_bytes(rest.inputs, rest.labels, self.quantity)
        size = examples_at_once(self.plan, rest.inputs, example_bytes)
        for rows in self.plan.streamed(rest.inputs, rest.labels, self.quantity, size):
            yield rows.layers

    def handed_over(self) -> Iterator[list[FactoredRows]]:
        """The kept blocks in order, each of which is no longer kept here."""
        while self._kept:
            yield self._kept.pop(0)

    def part(self, positions: Tensor | slice) -> "FactoredBlocks":
        """Those of some of the examples, which keep nothing."""
        return replace(self, split=self.split[positions], kept_bytes=0)


class RotatedBlocks:
    """The same in a basis for each layer, block after block; takes over what the blocks kept."""

    def __init__(self, blocks: FactoredBlocks, bases: Sequence[LayerBasis]) -> None:
        self.split = blocks.split
        self._blocks, self._bases = blocks, bases
        self._kept = [self._rotated(block) for block in blocks.handed_over()]

    def __iter__(self) -> Iterator[list[Sides]]:
        """Blocks of the examples in order, a layer's sides after another's in each."""
        kept = sum(len(block[0][0]) for block in self._kept)
        computed = map(self._rotated, self._blocks.computed(kept))
        return _kept_and_new(self._kept, computed, self._blocks.kept_bytes, lambda sides: sides)

    def part(self, positions: Tensor | slice) -> "RotatedBlocks":
        """Those of some of the examples, which keep nothing."""
        return RotatedBlocks(self._blocks.part(positions), self._bases)

    def _rotated(self, block: Sequence[FactoredRows]) -> list[Sides]:
        return [basis.rotated_sides(rows) for basis, rows in zip(self._bases, block, strict=True)]


def _kept_and_new(
    kept: list[list], computed: Iterator[list], most_bytes: int, tensors: Callable[[object], Iterable[Tensor]]
) -> Iterator[list]:
    """The kept blocks, then the computed ones, of which the first are kept too while all fit."""
    room = most_bytes - sum(_bytes_of(block, tensors) for block in kept)
    yield from list(kept)
    for block in computed:
        room -= _bytes_of(block, tensors)
        if room >= 0:
            kept.append(block)
        yield block


def _bytes_of(block: list, tensors: Callable[[object], Iterable[Tensor]]) -> int:
    """Memory that a block holds; layers that read the same inputs share them."""
    storages = [tensor.untyped_storage() for tensor in chain.from_iterable(map(tensors, block))]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
