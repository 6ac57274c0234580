"""Group normalisation whose input needs no gradient, which torch 2.11 cannot differentiate channels last on a CPU.

Its backward pass writes the input's gradient even where none is asked for, into no memory, and the process dies. The first
such layer behind frozen layers, or on the images themselves, is enough.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


def guard_group_norms(model: nn.Module) -> list[RemovableHandle]:
    """Let each group normalisation of the model copy such inputs into torch's own format, once; the handles take it back."""
    layers = [module for module in model.modules() if isinstance(module, nn.GroupNorm)]
    layers = [layer for layer in layers if _in_own_format not in layer._forward_pre_hooks.values()]
    return [layer.register_forward_pre_hook(_in_own_format) for layer in layers]


@contextmanager
def guarded_group_norms(model: nn.Module) -> Iterator[None]:
    """The same for as long as the context lasts."""
    with ExitStack() as stack:
        for handle in guard_group_norms(model):
            stack.callback(handle.remove)
        yield


def _in_own_format(module: nn.Module, arguments: tuple) -> tuple | None:
    inputs = arguments[0] if arguments else None
    if not isinstance(inputs, torch.Tensor) or inputs.device.type != "cpu":
        return None
    if inputs.requires_grad or not torch.is_grad_enabled():
        return None
    # A copy even where it seems to be in that format: a single pixel is in both, and the layer may take the other.
    return inputs.clone(memory_format=torch.contiguous_format), *arguments[1:]
