"""A faster forward pass for evaluation on a CPU, with the same arithmetic.

An evaluation of a small convolutional network is bound by memory: each operator writes its output and the next reads it. Where
a Sequential holds convolution, GELU and maximum over 2x2, the GELU is taken while the convolution's output is in the
cache, and the maximum by slices, which vectorise over channels. Leave-one-out and added steps are nearly all evaluation.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tda.system.inputs import Inputs, call, copied

Forward = Callable[[Inputs], Tensor]


def forward_of(model: nn.Module, example: Inputs) -> Forward:
    """The model's forward pass without gradients: itself, or one with fused operators where that is known to be the same."""
    on_cpu = isinstance(example, Tensor) and example.device.type == "cpu" and example.dtype == torch.float32
    fusible = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    if not (on_cpu and fusible and type(model) is nn.Sequential):
        return lambda inputs: call(model, inputs)
    steps = _fused(_leaves(model))

    def forward(inputs: Tensor) -> Tensor:
        # The first step may overwrite what it is given.
        inputs = copied(inputs)
        for step in steps:
            inputs = step(inputs)
        return inputs

    return forward


def _leaves(model: nn.Sequential) -> list[nn.Module]:
    leaves = []
    for module in model:
        leaves += _leaves(module) if type(module) is nn.Sequential else [module]
    return leaves


def _fused(modules: list[nn.Module]) -> list[Forward]:
    steps, position = [], 0
    while position < len(modules):
        module, following = modules[position], modules[position + 1 : position + 2]
        if _is_plain_convolution(module) and following and _is_exact_gelu(following[0]):
            steps.append(_convolution_with_gelu(module))
            position += 2
            continue
        steps.append(_maximum_of_squares if _halves(module) else module)
        position += 1
    return steps


def _is_plain_convolution(module: nn.Module) -> bool:
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _is_exact_gelu(module: nn.Module) -> bool:
    return type(module) is nn.GELU and module.approximate == "none"


def _halves(module: nn.Module) -> bool:
    if type(module) is not nn.MaxPool2d or module.ceil_mode or module.return_indices:
        return False
    settings = (module.kernel_size, module.stride, module.padding, module.dilation)
    return settings in ((2, 2, 0, 1), ((2, 2), (2, 2), (0, 0), (1, 1)))


def _convolution_with_gelu(module: nn.Conv2d) -> Forward:
    operator = torch.ops.mkldnn._convolution_pointwise
    geometry = (list(module.padding), list(module.stride), list(module.dilation), module.groups)
    return lambda inputs: operator(inputs, module.weight, module.bias, *geometry, "gelu", [], "none")


def _maximum_of_squares(inputs: Tensor) -> Tensor:
    """MaxPool2d(2); a value that is not a number stays one, as there."""
    # Channels last, as the memory of inputs is ordered: the slices then run along it.
    pixels = inputs.movedim(-3, -1)
    height, width = (size // 2 * 2 for size in inputs.shape[-2:])
    rows = torch.maximum(pixels[..., 0:height:2, :, :], pixels[..., 1:height:2, :, :])
    return torch.maximum(rows[..., 0:width:2, :], rows[..., 1:width:2, :]).movedim(-1, -3)
