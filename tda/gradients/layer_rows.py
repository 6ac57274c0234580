"""The gradient of each example with respect to one module's own parameters, from what went into it and its output gradients."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_unflatten

from tda.gradients.factored_rows import FactoredRows, formed_bias
from tda.gradients.formed_rows import FormedRows
from tda.gradients.recorded_pass import ModuleCall, floating_tensors

_PAIR_OVERHEAD = 16
"""Memory traffic of one pair of positions in the pairwise form, in multiplications that take as long."""


class NotPerExampleError(Exception):
    """A module's inputs or outputs do not hold one entry per example, or were overwritten: its formula does not apply."""


@dataclass(frozen=True)
class Layer:
    """A module and those parameters whose gradients it accounts for.

    parameters: name below the module -> name in the model; factored: whether to hold inputs and output gradients instead of
    the gradients (linear layers, convolutions and embeddings with a selected weight only); per_example: what
    per_example_tensors said of a probe's calls, None where these calls are the probe.
    """

    module: nn.Module
    parameters: dict[str, str]
    factored: bool = False
    per_example: tuple[tuple[bool, ...], ...] | None = None


def layer_rows(layer: Layer, calls: list[ModuleCall], example_count: int) -> FormedRows | FactoredRows:
    """The rows of one layer from all calls of its module in one pass over example_count examples.

    Raises NotPerExampleError if a call did not process one entry per example; whatever torch.func.vmap raises on a module
    without a formula of its own.
    """
    if not calls:
        raise NotPerExampleError
    factors = _FACTORS.get(type(layer.module))
    for call in calls:
        tensors = list(call.outputs)
        if factors is not None or type(layer.module) in _NORMALIZED:
            tensors += call.arguments[:1]
        if not call.input_is_intact() or any(tensor.dim() == 0 or len(tensor) != example_count for tensor in tensors):
            raise NotPerExampleError
    if factors is not None and _has_zero_padding(layer.module) and set(layer.parameters) <= {"weight", "bias"}:
        return _linear_rows(layer, [factors(layer.module, *_first_input_and_delta(call)) for call in calls])
    if type(layer.module) in _NORMALIZED:
        summed = [_norm_gradients(layer, call) for call in calls]
    else:
        flags = _known_per_example(layer.per_example, per_example_tensors(calls, example_count))
        summed = [_module_gradients(layer, call, of_call) for call, of_call in zip(calls, flags, strict=True)]
    parts = {name: sum(each[local] for each in summed).flatten(0, 1).flatten(1) for local, name in layer.parameters.items()}
    return FormedRows(parts, {name: layer.module.get_parameter(local).shape for local, name in layer.parameters.items()})


def per_example_tensors(calls: list[ModuleCall], example_count: int) -> tuple[tuple[bool, ...], ...]:
    """Which of the tensors that went into each call are as long as there are examples.

    In a probe of two these hold one entry per example. In a larger batch a table that all examples share, such as an
    attention's mask (T, T) for texts of T tokens, may be just as long.
    """
    return tuple(tuple(bool(tensor.dim()) and len(tensor) == example_count for tensor in _tensors(call)) for call in calls)


def is_linear(layer: Layer) -> bool:
    """Whether the layer's gradients can be held as inputs and output gradients of a dense weight."""
    convolves = isinstance(layer.module, nn.Linear | nn.Conv1d | nn.Conv2d) and type(layer.module) in _FACTORS
    return convolves and _has_zero_padding(layer.module) and {"weight"} <= set(layer.parameters) <= {"weight", "bias"}


def factored_is_cheaper(rows: FactoredRows, left_examples: int, right_examples: int) -> bool:
    """Whether all inner products of so many examples cost less from inputs and output gradients than from gradients."""
    _, quantities, groups, positions, outputs = rows.deltas.shape
    width = rows.weight_shape.numel() // (groups * outputs)
    left, right = left_examples * quantities, right_examples * quantities
    entries = groups * width * outputs
    tokens = not rows.inputs.is_floating_point()
    formed = (left + right) * (entries + positions * outputs if tokens else entries * positions) + left * right * entries
    per_pair = (1 if tokens else width) + outputs + _PAIR_OVERHEAD
    return left * right * groups * positions**2 * per_pair < formed


def _first_input_and_delta(call: ModuleCall) -> tuple[Tensor, Tensor]:
    if not call.arguments:
        raise NotPerExampleError
    deltas = [call.delta(r) for r in range(len(call.deltas))]
    # A single quantity needs no copy, and keeps the memory format.
    return call.arguments[0].detach(), deltas[0].unsqueeze(1) if len(deltas) == 1 else torch.stack(deltas, dim=1)


def _linear_rows(layer: Layer, factors: list[tuple[Tensor, Tensor]]) -> FormedRows | FactoredRows:
    inputs, deltas = factors[0]
    if len(factors) > 1:
        # A shared module's calls are as good as further positions of one call.
        inputs = torch.cat([call_inputs for call_inputs, _ in factors], dim=2)
        deltas = torch.cat([call_deltas for _, call_deltas in factors], dim=3)
    names = layer.parameters
    if "weight" not in names:
        return FormedRows({names["bias"]: formed_bias(deltas)}, {names["bias"]: layer.module.bias.shape})
    rows = FactoredRows(inputs, deltas, names["weight"], names.get("bias"), layer.module.weight.shape)
    return rows if layer.factored else rows.formed()


def _linear_factors(module: nn.Linear, inputs: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
    count, quantities = deltas.shape[:2]
    inputs = inputs.reshape(count, 1, -1, module.in_features)
    return inputs, deltas.reshape(count, quantities, 1, -1, module.out_features)


def _embedding_factors(module: nn.Embedding, tokens: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
    if module.scale_grad_by_freq:
        raise NotPerExampleError
    count, quantities = deltas.shape[:2]
    tokens = tokens.reshape(count, 1, -1)
    deltas = deltas.reshape(count, quantities, 1, -1, module.embedding_dim)
    if module.padding_idx is not None:
        deltas = deltas * (tokens != module.padding_idx)[:, None, :, :, None]
    return tokens, deltas


def _convolution_factors(module: nn.Conv1d | nn.Conv2d, inputs: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
    count, quantities = deltas.shape[:2]
    deltas = deltas.reshape(count, quantities, module.groups, module.out_channels // module.groups, -1).transpose(-1, -2)
    padding = [pad for before, after in reversed(_padding(module)) for pad in (before, after)]
    padded = functional.pad(inputs, padding) if any(padding) else inputs
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    if isinstance(module, nn.Conv1d):
        padded, kernel, stride, dilation = padded.unsqueeze(2), (1, *kernel), (1, *stride), (1, *dilation)
    return _unfolded(padded, kernel, stride, dilation, module.groups), deltas


def _padding(module: nn.Conv1d | nn.Conv2d) -> list[tuple[int, int]]:
    if module.padding == "valid":
        return [(0, 0)] * len(module.kernel_size)
    if module.padding == "same":
        totals = [spacing * (size - 1) for spacing, size in zip(module.dilation, module.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(pad, pad) for pad in module.padding]


def _unfolded(pictures: Tensor, kernel: tuple, stride: tuple, dilation: tuple, groups: int) -> Tensor:
    """Patches (n, groups, positions, kernel height * kernel width * channels per group) of pictures (n, C, H, W)."""
    count, channels, *size = pictures.shape
    height, width = ((s - d * (k - 1) - 1) // step + 1 for s, k, step, d in zip(size, kernel, stride, dilation, strict=True))
    by_example, by_channel, by_row, by_column = pictures.stride()
    channels_per_group = channels // groups
    patch = (*kernel, channels_per_group)
    patch_strides = (by_row * dilation[0], by_column * dilation[1], by_channel)
    positions, position_strides = (height, width), (by_row * stride[0], by_column * stride[1])
    outer, outer_strides = (count, groups), (by_example, by_channel * channels_per_group)
    # Whichever of patch and position lies contiguous in memory goes last, so that the copy moves long runs.
    if by_column == 1:
        view = pictures.as_strided(
            (*outer, *patch, *positions), (*outer_strides, *patch_strides, *position_strides), pictures.storage_offset()
        )
        return view.reshape(count, groups, -1, height * width).mT
    view = pictures.as_strided(
        (*outer, *positions, *patch), (*outer_strides, *position_strides, *patch_strides), pictures.storage_offset()
    )
    return view.reshape(count, groups, height * width, -1)


def _has_zero_padding(module: nn.Module) -> bool:
    return getattr(module, "padding_mode", "zeros") == "zeros"


def _norm_gradients(layer: Layer, call: ModuleCall) -> dict[str, Tensor]:
    inputs, deltas = _first_input_and_delta(call)
    shape = layer.module.get_parameter(next(iter(layer.parameters))).shape
    # Layer norms act on the last dimensions, the others on the channels, which follow the examples.
    last = isinstance(layer.module, nn.LayerNorm | nn.RMSNorm)
    summed = list(range(2, deltas.dim() - len(shape))) if last else list(range(3, deltas.dim()))
    gradients = {}
    for local in layer.parameters:
        scaled = deltas * _NORMALIZED[type(layer.module)](layer.module, inputs).unsqueeze(1) if local == "weight" else deltas
        gradients[local] = scaled.sum(dim=summed) if summed else scaled
    return gradients


def _known_per_example(probed: tuple[tuple[bool, ...], ...] | None, now: tuple[tuple[bool, ...], ...]) -> list[list[bool]]:
    """The tensors that hold one entry per example by the probe as by the calls themselves."""
    if probed is None:
        probed = now
    if [len(flags) for flags in probed] != [len(flags) for flags in now]:
        raise NotPerExampleError
    return [[a and b for a, b in zip(*pair, strict=True)] for pair in zip(probed, now, strict=True)]


def _tensors(call: ModuleCall) -> list[Tensor]:
    """The tensors among a call's arguments, in order."""
    return [leaf for leaf in tree_flatten((call.arguments, call.keywords))[0] if isinstance(leaf, Tensor)]


def _module_gradients(layer: Layer, call: ModuleCall, per_example: list[bool]) -> dict[str, Tensor]:
    """Gradients (n, R, *shape) of any module, by running it again on each example."""
    leaves, structure = tree_flatten((call.arguments, call.keywords))
    tensors = {i: leaf.detach() for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
    in_dims = {i: 0 if flag else None for i, flag in zip(tensors, per_example, strict=True)}
    parameters = {local: layer.module.get_parameter(local).detach() for local in layer.parameters}

    def gradients(tensors: dict[int, Tensor], deltas: list[Tensor]) -> dict[str, Tensor]:
        def outputs(parameters: dict[str, Tensor]) -> list[Tensor]:
            batched = [
                (tensors[i][None] if in_dims[i] == 0 else tensors[i]) if i in tensors else leaf for i, leaf in enumerate(leaves)
            ]
            arguments, keywords = tree_unflatten(batched, structure)
            return floating_tensors(functional_call(layer.module, parameters, arguments, keywords))

        _, pullback = vjp(outputs, parameters)
        return pullback([delta[None] for delta in deltas])[0]

    per_example = vmap(gradients, in_dims=(in_dims, 0))
    # Fused attention has no rule for vmap.
    with sdpa_kernel(SDPBackend.MATH):
        each = [per_example(tensors, [call.delta(r, i) for i in range(len(call.outputs))]) for r in range(len(call.deltas))]
    return {local: torch.stack([gradient[local] for gradient in each], dim=1) for local in layer.parameters}


_FACTORS: dict[type, Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    nn.Linear: _linear_factors,
    nn.Conv1d: _convolution_factors,
    nn.Conv2d: _convolution_factors,
    nn.Embedding: _embedding_factors,
}

_NORMALIZED: dict[type, Callable[[nn.Module, Tensor], Tensor]] = {
    nn.LayerNorm: lambda module, inputs: functional.layer_norm(inputs, module.normalized_shape, eps=module.eps),
    nn.RMSNorm: lambda module, inputs: functional.rms_norm(inputs, module.normalized_shape, eps=module.eps),
    nn.GroupNorm: lambda module, inputs: functional.group_norm(inputs, module.num_groups, eps=module.eps),
} | dict.fromkeys(
    (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    lambda module, inputs: functional.batch_norm(inputs, module.running_mean, module.running_var, eps=module.eps),
)
