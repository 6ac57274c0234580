"""Models of 16 bits, and autocasting ones, computed in float32.

Gradients of many examples are compared, and differences of losses taken, at which bfloat16 (three digits) and float16 (a
smallest number of 6e-8) fail. A parameter of 16 bits is a float32 number, so that a copy of the model in float32 is the model.
"""

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.amp.autocast_mode import autocast

from tda.system.errors import UserError, first_line
from tda.system.inputs import Inputs, mapped

LOW_PRECISION = (torch.bfloat16, torch.float16)


def single_precision(model: nn.Module) -> nn.Module:
    """The model itself or, where it holds parameters or buffers of 16 bits, a copy of it with those in float32.

    The copy takes 4 bytes for each parameter, beside the model. Raises UserError for a model that cannot be copied.
    """
    if not any(tensor.dtype in LOW_PRECISION for tensor in _state(model)):
        return model
    try:
        copied = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        reason = first_line(error)
        raise UserError(
            f"the model is in 16 bits and cannot be copied to be computed in float32 ({reason}); give model.float()"
        ) from error
    return copied._apply(lambda tensor: tensor.float() if tensor.dtype in LOW_PRECISION else tensor)


def in_single_precision(inputs: Inputs) -> Inputs:
    """The inputs with tensors of 16 bits in float32."""
    return mapped(inputs, lambda part: part.float() if part.dtype in LOW_PRECISION else part)


def outside_inference(labels: Tensor) -> Tensor:
    """The labels, as a copy where they were made in inference mode: no loss of such can be differentiated."""
    return labels.clone() if labels.is_inference() else labels


class Follower:
    """A copy in float32 that takes over what its 16-bit model holds, when that has changed."""

    def __init__(self, model: nn.Module) -> None:
        """Raises UserError as single_precision does."""
        self._source = model
        self.model = single_precision(model)
        self._known = self._stamps()

    def refresh(self) -> None:
        """Copy the source's parameters and buffers again if any was written to since."""
        if self.model is self._source or self._known == (stamps := self._stamps()):
            return
        with torch.no_grad():
            for copied, tensor in zip(_state(self.model), _state(self._source), strict=True):
                copied.copy_(tensor)
        self._known = stamps

    def _stamps(self) -> list[tuple[int, int]]:
        return [] if self.model is self._source else [(tensor.data_ptr(), tensor._version) for tensor in _state(self._source)]


def _state(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


_here = threading.local()
_enter = autocast.__enter__


def _enter_unless_single_precision_is_asked_for(self: autocast) -> object:
    if not getattr(_here, "depth", 0):
        return _enter(self)
    enabled, self._enabled = self._enabled, False
    try:
        return _enter(self)
    finally:
        self._enabled = enabled


# A forward pass may enter an autocast of its own, which nothing outside of it can forbid but here.
autocast.__enter__ = _enter_unless_single_precision_is_asked_for


@contextmanager
def without_autocast(device: torch.device) -> Iterator[None]:
    """No autocast in this thread, neither one that is on already nor one that a model enters."""
    _here.depth = getattr(_here, "depth", 0) + 1
    try:
        with autocast(device.type, enabled=False):
            yield
    finally:
        _here.depth -= 1
