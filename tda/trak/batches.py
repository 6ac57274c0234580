"""Batches as programs hand them over: tensors by position or by name, one example a row of each."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from tda.gradients.single_precision import LOW_PRECISION
from tda.system.errors import UserError

Batch = list[Tensor] | dict[str, Tensor]
"""The parts of a batch, in the order or by the names that the task knows; all have one first dimension."""

LABEL_NAMES = ("labels", "label", "targets", "target", "y")
"""Names of which the first that a batch has holds its labels."""


def batch_of(given: object) -> Batch:
    """The batch in what a program hands over: a sequence of tensors or arrays, a mapping of them, or (mapping, labels).

    Raises UserError for anything else, or where the parts hold different numbers of examples.
    """
    if isinstance(given, Tensor | np.ndarray | str | bytes):
        raise UserError("a batch is a sequence of tensors, such as (inputs, labels), or a dict of them; this is a single one")
    if hasattr(given, "items"):
        batch = {str(name): _tensor(part, f"{name!r}") for name, part in given.items()}
    else:
        parts = list(given)
        if len(parts) == 2 and isinstance(parts[0], Mapping):
            return batch_of({**parts[0], LABEL_NAMES[0]: parts[1]})
        batch = [_tensor(part, f"number {position}") for position, part in enumerate(parts)]
    counts = {len(part) for part in parts_of(batch)}
    if len(counts) != 1:
        raise UserError(
            f"the parts of a batch hold {' and '.join(map(str, sorted(counts))) or 'no'} examples; give each one's all"
        )
    return batch


def parts_of(batch: Batch) -> list[Tensor]:
    """Every tensor of the batch."""
    return list(batch.values()) if isinstance(batch, dict) else batch


def count_of(batch: Batch) -> int:
    """Number of examples."""
    return len(parts_of(batch)[0])


def label_name(batch: dict[str, Tensor]) -> str | None:
    """The name of a dict's labels."""
    return next((name for name in LABEL_NAMES if name in batch), None)


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device, its 16-bit floating parts in float32, in which models compute."""
    return mapped(batch, lambda part: part.detach().to(device, torch.float32 if part.dtype in LOW_PRECISION else part.dtype))


def mapped(batch: Batch, function: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with a function applied to every part."""
    if isinstance(batch, dict):
        return {name: function(part) for name, part in batch.items()}
    return [function(part) for part in batch]


def _tensor(part: object, name: str) -> Tensor:
    try:
        tensor = torch.as_tensor(part)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"part {name} of a batch is {type(part).__name__}, no tensor; give tensors or arrays of numbers"
        ) from error
    if tensor.layout != torch.strided:
        raise UserError(f"part {name} of a batch is sparse; give a dense tensor, such as its to_dense()")
    if not tensor.dim():
        raise UserError(f"part {name} of a batch is a single number; give one row for each example")
    return tensor
