"""What goes into a model, whatever its kind, and the one place that knows how a model takes it.

Inputs are a tensor (n, ...), or a flat dict of tensors by the names of the model's arguments, all with one first dimension:
images; token ids with a mask; an image with a text.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tda.system.errors import UserError

Inputs = Tensor | dict[str, Tensor]


def parts_of(inputs: Inputs) -> list[Tensor]:
    """Every tensor of the inputs."""
    return list(inputs.values()) if isinstance(inputs, dict) else [inputs]


def mapped(inputs: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    """The inputs with a function applied to every tensor."""
    return {name: function(part) for name, part in inputs.items()} if isinstance(inputs, dict) else function(inputs)


def count_of(inputs: Inputs) -> int:
    """Number of examples."""
    return len(parts_of(inputs)[0])


def device_of(inputs: Inputs) -> torch.device:
    """Where the inputs lie."""
    return parts_of(inputs)[0].device


def chosen(inputs: Inputs, positions: slice | Tensor | Sequence[int]) -> Inputs:
    """The examples at the given positions."""
    return mapped(inputs, lambda part: part[positions])


def batches_of(inputs: Inputs, size: int) -> Iterator[Inputs]:
    """Batches of `size` examples in order; the last may be smaller."""
    return (chosen(inputs, slice(start, start + size)) for start in range(0, count_of(inputs), size))


def cast(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """Floating tensors in another precision; token ids and masks of integers stay as they are."""
    return mapped(inputs, lambda part: part.to(dtype) if part.is_floating_point() else part)


def call(model: nn.Module, inputs: Inputs, weights: dict[str, Tensor] | tuple[dict[str, Tensor], ...] | None = None) -> Tensor:
    """The model's logits (n, ...) for the inputs: model(tensor), or model(**dict).

    weights: parameters, and perhaps buffers, by name that take the place of the model's own. The model is given a copy of the
    inputs, which it may overwrite. Raises UserError as logits_of does.
    """
    given = copied(inputs)
    arguments, keywords = ((), given) if isinstance(given, dict) else ((given,), {})
    if weights is None:
        return logits_of(model(*arguments, **keywords))
    return logits_of(called_with(model, weights, arguments, keywords))


def called_with(
    module: nn.Module,
    weights: dict[str, Tensor] | tuple[dict[str, Tensor], ...],
    arguments: tuple,
    keywords: dict | None = None,
) -> object:
    """What a module returns with other tensors, by name, in place of its own parameters and buffers, tied ones with their like.

    torch's functional_call swaps a tied tensor under each of its names, so that a module that stands in two places, as the
    words of an encoder and its decoder do, would be left with a stranger's tensor for its own.
    """
    given = weights if isinstance(weights, dict) else {name: part for each in weights for name, part in each.items()}
    places: dict[int, list[str]] = {}
    for prefix, each in module.named_modules():
        for local, tensor in (*each._parameters.items(), *each._buffers.items()):
            if tensor is not None:
                places.setdefault(id(tensor), []).append(f"{prefix}.{local}" if prefix else local)
    swapped = {}
    for name, tensor in given.items():
        prefix, _, local = name.rpartition(".")
        own = getattr(module.get_submodule(prefix), local)
        swapped |= dict.fromkeys(places.get(id(own), [name]), tensor)
    return functional_call(module, swapped, arguments, keywords, tie_weights=False)


@contextmanager
def in_their_places(model: nn.Module) -> Iterator[None]:
    """Afterwards every module has its own parameters and buffers again, whatever a program's functional_call left there."""
    tables = [table for module in model.modules() for table in (module._parameters, module._buffers)]
    held = [dict(table) for table in tables]
    try:
        yield
    finally:
        for table, own in zip(tables, held, strict=True):
            table.update(own)


def copied(inputs: Inputs) -> Inputs:
    """The inputs in memory of their own, laid out alike: what a model writes to, others must not read."""
    return mapped(inputs, torch.clone)


def logits_of(output: object) -> Tensor:
    """The logits in what a model returns: a tensor, the first of several, `logits`, or the only ones by another name.

    A loss, a single number, is passed over. Raises UserError where there are none, or several by other names.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, tuple | list):
        return _only([part for part in output if _may_be_logits(part)][:1], output)
    if isinstance(output, Mapping) and "logits" not in output:
        return _only([part for part in output.values() if _may_be_logits(part)], output)
    logits = output["logits"] if isinstance(output, Mapping) else getattr(output, "logits", None)
    return _only([logits] if isinstance(logits, Tensor) else [], output)


def _may_be_logits(part: object) -> bool:
    return isinstance(part, Tensor) and part.dim() > 0 and part.is_floating_point()


def _only(tensors: list[Tensor], output: object) -> Tensor:
    if len(tensors) == 1:
        return tensors[0]
    held = f" with {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
    raise UserError(
        f"the model returns a {type(output).__name__}{held}, in which the logits cannot be told; "
        "return a tensor, or a dict or an object with `logits`"
    )
