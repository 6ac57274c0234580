"""What a plan says of each module that accounts for parameters."""

from dataclasses import dataclass

from torch import nn


class NotPerExampleError(Exception):
    """A module's inputs or outputs do not hold one entry per example, or were overwritten: its formula does not apply."""


@dataclass(frozen=True)
class Dimensions:
    """Of each tensor that goes in, and of each floating one that comes out, the examples' dimension; None if it has none."""

    inputs: tuple[int | None, ...]
    outputs: tuple[int | None, ...]


@dataclass(frozen=True)
class Layer:
    """A module and those parameters whose gradients it accounts for.

    parameters: name below the module -> name in the model; factored: whether to hold inputs and output gradients instead of
    the gradients (linear layers, convolutions and embeddings with a selected weight only); dimensions: where the examples lie
    in each call, by default first; vectorized: whether a module without a formula is run again for all examples at once by
    torch.func.vmap, or for one after another; others: further modules that hold the same weight; spread: whether the module is
    an embedding that is called once for all examples, as of places in a text, and whose output is laid out for each of them.
    """

    module: nn.Module
    parameters: dict[str, str]
    factored: bool = False
    dimensions: tuple[Dimensions, ...] | None = None
    vectorized: bool = True
    others: tuple[nn.Module, ...] = ()
    spread: bool = False
