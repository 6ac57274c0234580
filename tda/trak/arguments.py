"""What a program hands to a TRAKer, checked."""

import operator
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from tda.gradients.selected_parameters import refuse_opaque
from tda.gradients.single_precision import single_precision
from tda.system.errors import UserError
from tda.trak.refusals import AssertedError


def whole_number(value: object, name: str, least: int = 0) -> int:
    """An int from any kind of integer, numpy's and tensors' too; raises UserError for another thing, or below `least`."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise UserError(f"{name} is {value!r}; it must be a whole number") from error
    if number < least or isinstance(value, bool):
        raise UserError(f"{name} is {value}; it must be at least {least}")
    return number


def usable_model(model: object, device: torch.device) -> nn.Module:
    """The model on the device, in evaluation mode; one with 16-bit parameters as a copy in float32.

    Raises UserError for what has no gradients of its own for each example: a wrapper for several GPUs, or a ScriptModule.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"model is {type(model).__name__}; give a torch.nn.Module")
    refuse_opaque(model)
    if next(model.parameters(), None) is None:
        raise UserError("the model has no parameters, so that nothing can be attributed to training examples")
    return single_precision(model).to(device).eval()


def parameter_names(names: Iterable[str] | None) -> list[str] | None:
    """Names of parameters, None for all that require gradients; raises UserError for parameters themselves."""
    if names is None:
        return None
    names = [names] if isinstance(names, str) else list(names)
    if not all(isinstance(name, str) for name in names):
        raise UserError("grad_wrt holds parameters; give their names, as model.named_parameters() has them")
    return names


class Positions:
    """Where the examples of batches stand: as a program says, or one batch after another."""

    def __init__(self, count: int, noun: str) -> None:
        """count: how many examples were announced; noun: what they are, for messages."""
        self.count, self.noun = count, noun
        self._next = 0

    def of(self, size: int, inds: Iterable[int] | None, num_samples: int | None) -> np.ndarray:
        """Positions (size,) int64; raises UserError where they do not fit the batch or the announced number."""
        if (inds is None) == (num_samples is None):
            raise AssertedError(
                "Exactly one of num_samples and inds should be specified: give either inds, the examples' positions, or "
                "num_samples, the batch's size"
            )
        if inds is None:
            given = whole_number(num_samples, "num_samples")
            positions = np.arange(self._next, self._next + given)
        else:
            positions = _whole_numbers(inds)
        if len(positions) != size:
            raise UserError(f"the batch holds {size} examples, not {len(positions)}; give the number it holds")
        if size and not (0 <= positions.min() and positions.max() < self.count):
            raise UserError(
                f"the batch holds example {positions.max() if positions.min() >= 0 else positions.min()}, but "
                f"{self.count} {self.noun} were announced, counted from 0; announce the right number"
            )
        if len(np.unique(positions)) < size:
            raise UserError("inds holds a position twice; give each example its own")
        return positions

    def advance(self, count: int) -> None:
        """So many examples were taken: the next batch in order follows them."""
        self._next += count


def _whole_numbers(inds: Iterable[int]) -> np.ndarray:
    listed = inds.detach().cpu() if isinstance(inds, Tensor) else inds if hasattr(inds, "__len__") else list(inds)
    found = np.asarray(listed)
    if found.size and not np.issubdtype(found.dtype, np.integer):
        raise UserError(f"inds holds {found.dtype} values; give the examples' positions as whole numbers from 0")
    return found.reshape(-1).astype(np.int64)
