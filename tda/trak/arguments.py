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


def whole_ids(model_ids: Iterable[int] | None) -> list[int] | None:
    """Model ids as ints, None for all; raises UserError for another thing."""
    if model_ids is None:
        return None
    if not isinstance(model_ids, Iterable):
        raise UserError(f"model_ids is {model_ids!r}; give a list of them, such as [{model_ids!r}]")
    return [whole_number(model_id, "model_id") for model_id in model_ids]


def one_each(out_to_loss: object, count: int) -> Tensor:
    """Q of `count` examples (count,), from one number for all of them too; raises UserError for another thing."""
    if isinstance(out_to_loss, Tensor) and not out_to_loss.dim():
        return out_to_loss.detach().expand(count)
    if not isinstance(out_to_loss, Tensor) or out_to_loss.numel() != count:
        what = tuple(out_to_loss.shape) if isinstance(out_to_loss, Tensor) else type(out_to_loss).__name__
        raise UserError(f"get_out_to_loss_grad gave {what} for {count} examples; it must give one number each, (n,) or (n, 1)")
    return out_to_loss.detach().reshape(count)


def usable_model(model: object, device: torch.device) -> nn.Module:
    """The model on the device, in evaluation mode; one with 16-bit parameters as a copy in float32.

    Raises UserError for what has no gradients of its own for each example: a wrapper for several GPUs, or a ScriptModule.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"model is {type(model).__name__}; give a torch.nn.Module")
    refuse_opaque(model)
    if next(model.parameters(), None) is None:
        raise UserError("the model has no parameters, so that nothing can be attributed to training examples")
    with torch.inference_mode(False):
        usable = single_precision(model).to(device)
    # Not in one with the above: a train() of a program's own may give nothing back.
    usable.eval()
    return usable


def parameter_names(names: Iterable[str] | None) -> list[str] | None:
    """Names of parameters, None for all that require gradients; raises UserError for parameters themselves."""
    if names is None:
        return None
    names = [names] if isinstance(names, str) else list(names)
    if not all(isinstance(name, str) for name in names):
        raise UserError("grad_wrt holds parameters; give their names, as model.named_parameters() has them")
    return names


def shard_of(given: object, count: int) -> tuple[int, int]:
    """Start and stop of a shard of `count` training examples; raises UserError if it holds none of them, or others."""
    try:
        start, stop = given
    except (TypeError, ValueError) as error:
        raise UserError(f"shard is {given!r}; give the first row and the one after the last, such as (0, 1000)") from error
    start, stop = whole_number(start, "the start of shard"), whole_number(stop, "the stop of shard")
    if not start < stop <= count:
        raise UserError(f"shard ({start}, {stop}) holds none or others of the {count} training examples announced")
    return start, stop


class Positions:
    """Where the examples of batches stand: as a program says, or one batch after another."""

    def __init__(self, count: int, noun: str, start: int = 0) -> None:
        """count: how many examples were announced, from start; noun: what they are, for messages."""
        self.count, self.noun, self.start = count, noun, start
        self._next = start

    def of(self, size: int, inds: Iterable[int] | None, num_samples: int | None) -> np.ndarray:
        """Positions (size,) int64 from start; raises UserError where they do not fit the batch or the announced number."""
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
        if size and not (self.start <= positions.min() and positions.max() < self.start + self.count):
            raise UserError(
                f"the batch holds example {positions.max() if positions.min() >= self.start else positions.min()}, but "
                f"{self.count} {self.noun} were announced, counted from {self.start}; announce the right number"
            )
        if len(np.unique(positions)) < size:
            raise UserError("inds holds a position twice; give each example its own")
        return positions - self.start

    def advance(self, count: int) -> None:
        """So many examples were taken: the next batch in order follows them."""
        self._next += count


def _whole_numbers(inds: Iterable[int]) -> np.ndarray:
    if not isinstance(inds, Iterable):
        raise UserError(f"inds is {inds!r}; give the positions of the batch's examples, such as [{inds!r}]")
    listed = inds.detach().cpu() if isinstance(inds, Tensor) else inds if hasattr(inds, "__len__") else list(inds)
    found = np.asarray(listed)
    if found.size and not np.issubdtype(found.dtype, np.integer):
        raise UserError(f"inds holds {found.dtype} values; give the examples' positions as whole numbers from 0")
    return found.reshape(-1).astype(np.int64)
