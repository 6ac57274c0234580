"""Batch normalisation in training as a function that can be differentiated twice, its running statistics included.

In training a batch is normalised by its own mean and variance, and running statistics, which evaluation uses, move towards
them: r' = (1 - momentum) r + momentum s. They are part of what a training leads to, so that s must be differentiated too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tda.system.errors import UserError

Values = dict[str, Tensor]


def momenta(model: nn.Module) -> dict[str, float]:
    """The momentum of each running statistic, by buffer name; empty without batch normalisation.

    Raises UserError for a buffer of numbers that a training changes otherwise.
    """
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            if module.momentum is None:
                raise UserError("batch normalisation with a cumulative average (momentum None) cannot be differentiated here")
            for buffer in ("running_mean", "running_var"):
                found[f"{name}.{buffer}" if name else buffer] = module.momentum
        elif isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.track_running_stats:
            raise UserError("instance normalisation with running statistics cannot be differentiated through training")
    return found


@contextmanager
def open_normalisation(model: nn.Module) -> Iterator[Values]:
    """Within, batch normalisation can be differentiated by its running statistics too, and never changes them.

    In training mode the batch's own statistics are entered into the dict, by the names of the buffers that follow them.
    """
    found: Values = {}
    changed = [(name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    for name, module in changed:
        module.forward = _opened(module, f"{name}." if name else "", found)
    try:
        yield found
    finally:
        for _, module in changed:
            del module.forward


def _opened(module: _BatchNorm, prefix: str, found: Values) -> Callable[[Tensor], Tensor]:
    def forward(inputs: Tensor) -> Tensor:
        if module.training or not module.track_running_stats:
            others = [dim for dim in range(inputs.dim()) if dim != 1]
            count = inputs.numel() // inputs.shape[1]
            mean = inputs.mean(dim=others)
            variance = (inputs - _as_channels(mean, inputs)).square().mean(dim=others)
            if module.track_running_stats:
                found[f"{prefix}running_mean"] = mean
                found[f"{prefix}running_var"] = variance * (count / max(1, count - 1))
        else:
            mean, variance = module.running_mean, module.running_var
        normal = (inputs - _as_channels(mean, inputs)) * _as_channels((variance + module.eps).rsqrt(), inputs)
        if module.affine:
            normal = normal * _as_channels(module.weight, inputs) + _as_channels(module.bias, inputs)
        return normal

    return forward


def _as_channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *(1,) * (like.dim() - 2))
