"""The state in which models are differentiated: evaluation mode, full precision, gradients for chosen parameters only."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from tda.gradients.single_precision import without_autocast
from tda.system.group_norms import guarded_group_norms


@contextmanager
def evaluation(model: nn.Module, differentiable: Collection[str]) -> Iterator[None]:
    """Put the model in evaluation mode with gradients for the named parameters only, and restore it afterwards.

    Autograd is on even where none is named and the caller has it off, for a model may differentiate on its way.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(name, parameter, parameter.requires_grad) for name, parameter in model.named_parameters()]
    fast_path, names = torch.backends.mha.get_fastpath_enabled(), set(differentiable)
    device = flags[0][1].device if flags else torch.device("cpu")
    try:
        # The fused encoder layer would pass its children by.
        torch.backends.mha.set_fastpath_enabled(False)
        model.eval()
        for name, parameter, _ in flags:
            parameter.requires_grad_(name in names)
        with torch.enable_grad(), without_autocast(device), guarded_group_norms(model):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, mode in modes:
            module.training = mode
        for _, parameter, flag in flags:
            parameter.requires_grad_(flag)
