"""Along which dimension of what goes into a module, and of what comes out, the examples of a batch lie."""

from torch import Tensor

from tda.gradients.layers import Dimensions, Layer, NotPerExampleError
from tda.gradients.recorded_pass import ModuleCall


def example_dimensions(together: list[ModuleCall], alone: list[ModuleCall], count: int) -> tuple[Dimensions, ...]:
    """Of each call of a module, the dimensions that are `count` long in a pass over so many examples and 1 in one over one.

    Raises NotPerExampleError unless both passes call it alike, and each tensor has one such dimension or never changes.
    """
    if not together or len(together) != len(alone):
        raise NotPerExampleError("is called otherwise for several examples than for one")
    return tuple(
        Dimensions(_differing(many.inputs, one.inputs, count), _differing(many.outputs, one.outputs, count))
        for many, one in zip(together, alone, strict=True)
    )


def checked_dimensions(layer: Layer, calls: list[ModuleCall], count: int) -> list[Dimensions]:
    """The dimensions in each call of a layer's module in a pass over `count` examples, by default the first of all tensors.

    Raises NotPerExampleError unless every call processed one entry for each example, and its inputs are intact.
    """
    known = layer.dimensions or tuple(_first(call, count) for call in calls)
    if len(known) != len(calls):
        if len(set(known)) > 1:
            raise NotPerExampleError("is called in several ways")
        known = known[:1] * len(calls)
    for dimensions, call in zip(known, calls, strict=True):
        _require_examples(dimensions, call, count)
    return list(known)


def argument_dimensions(dimensions: Dimensions, call: ModuleCall) -> tuple[int, int]:
    """Where the examples lie in a module's first argument and in its first output.

    Raises NotPerExampleError if they do not, or if nothing was given by position.
    """
    found = (
        (dimensions.inputs[0], dimensions.outputs[0]) if call.arguments and isinstance(call.arguments[0], Tensor) else (None,)
    )
    if None in found:
        raise NotPerExampleError("is not given one entry per example by position")
    return found


def _first(call: ModuleCall, count: int) -> Dimensions:
    """Examples first in all that is as long as they are many, and in the first argument and the outputs in any case."""
    inputs = [0 if tensor.dim() and len(tensor) == count else None for tensor in call.inputs]
    return Dimensions((0, *inputs[1:]) if call.arguments else tuple(inputs), (0,) * len(call.outputs))


def _require_examples(dimensions: Dimensions, call: ModuleCall, count: int) -> None:
    if not call.input_is_intact():
        raise NotPerExampleError("takes what is overwritten later")
    inputs = call.inputs
    if (len(inputs), len(call.outputs)) != (len(dimensions.inputs), len(dimensions.outputs)):
        raise NotPerExampleError("is called in several ways")
    for tensor, dimension in zip([*inputs, *call.outputs], [*dimensions.inputs, *dimensions.outputs], strict=True):
        if dimension is not None and (tensor.dim() <= dimension or tensor.shape[dimension] != count):
            raise NotPerExampleError("processes another number of entries than the batch has examples")
    for index, dimension in enumerate(dimensions.outputs):
        if dimension is None and any(index in deltas for deltas in call.deltas):
            raise NotPerExampleError("puts out what the examples of a batch share")


def _differing(together: list[Tensor], alone: list[Tensor], count: int) -> tuple[int | None, ...]:
    if len(together) != len(alone):
        raise NotPerExampleError("is called otherwise for several examples than for one")
    found: list[int | None] = []
    for many, one in zip(together, alone, strict=True):
        differing = [place for place, sizes in enumerate(zip(many.shape, one.shape, strict=False)) if sizes[0] != sizes[1]]
        right = not differing or (len(differing) == 1 and (many.shape[differing[0]], one.shape[differing[0]]) == (count, 1))
        if many.dim() != one.dim() or not right:
            raise NotPerExampleError("processes another number of entries than the batch has examples")
        found.append(differing[0] if differing else None)
    return tuple(found)
