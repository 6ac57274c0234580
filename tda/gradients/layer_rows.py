"""The gradient of each example with respect to one module's own parameters, from what went into it and its output gradients."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from tda.gradients.example_dimensions import argument_dimensions, checked_dimensions
from tda.gradients.factored_rows import FactoredRows, formed_bias
from tda.gradients.formed_rows import FormedRows
from tda.gradients.gradient_rows import LayerRows
from tda.gradients.layers import Dimensions, Layer, NotPerExampleError
from tda.gradients.module_gradients import module_gradients
from tda.gradients.recorded_pass import ModuleCall, Recording
from tda.gradients.tied_rows import tied

_PAIR_OVERHEAD = 16
"""Memory traffic of one pair of positions in the pairwise form, in multiplications that take as long."""


def recorded_rows(layer: Layer, recording: Recording, example_count: int) -> LayerRows:
    """The rows of a layer in a pass over example_count examples, zero where it was not called.

    Raises NotPerExampleError, or what a module raises, as layer_rows does.
    """
    if layer.others:
        ways = (replace(layer, module=module, others=(), factored=True) for module in (layer.module, *layer.others))
        rows = tied([recorded_rows(way, recording, example_count) for way in ways])
        return rows if layer.factored else rows.formed()
    calls = recording.calls[layer.module]
    return layer_rows(layer, calls, example_count) if calls else unused_rows(layer, recording.values)


def layer_rows(layer: Layer, calls: list[ModuleCall], example_count: int) -> FormedRows | FactoredRows:
    """The rows of one layer from the calls, at least one, of its module in one pass over example_count examples.

    Raises NotPerExampleError if a call did not process one entry per example; whatever a module without a formula of its own
    raises when it is run again.
    """
    pairs = list(zip(calls, checked_dimensions(layer, calls, example_count), strict=True))
    if _has_factors(layer):
        factors = _factors_of(layer.module)
        return _linear_rows(layer, [factors(layer.module, *_first_input_and_delta(layer, *pair)) for pair in pairs])
    gradients = _norm_gradients if type(layer.module) in _NORMALIZED else module_gradients
    summed = [gradients(layer, *pair) for pair in pairs]
    parts = {name: sum(each[local] for each in summed).flatten(0, 1) for local, name in layer.parameters.items()}
    return FormedRows.of_gradients(parts, len(next(iter(parts.values()))))


def rows_of_one_example(layer: Layer, calls: list[ModuleCall]) -> FactoredRows:
    """The rows of one factored layer from the calls, at least one, in a pass over a single example, whatever they processed.

    Raises NotPerExampleError if what went in was overwritten.
    """
    entries = {nn.Embedding: 0, nn.Conv1d: 2, nn.Conv2d: 3}.get(type(layer.module), 1)
    factors = []
    for call in calls:
        if not call.arguments or not call.input_is_intact():
            raise NotPerExampleError
        inputs, deltas = call.arguments[0].detach(), torch.stack([call.delta(r) for r in range(len(call.deltas))])
        if inputs.dim() == entries:
            inputs, deltas = inputs[None], deltas[:, None]
        inputs, deltas = _factors_of(layer.module)(layer.module, inputs, deltas.movedim(0, 1))
        # What the layer processed, be it pictures of a strip or tokens, are further positions.
        folded = deltas.permute(1, 2, 0, 3, 4).flatten(2, 3)[None]
        factors.append((inputs.transpose(0, 1).flatten(1, 2)[None], folded))
    return _linear_rows(layer, factors)


def unused_rows(layer: Layer, values: Tensor) -> LayerRows:
    """The rows, all zero, of a layer that a pass with quantities (n, R) did not call."""
    if layer.others and layer.factored:
        ways = (replace(layer, module=module, others=()) for module in (layer.module, *layer.others))
        return tied([unused_rows(way, values) for way in ways])
    shapes = {name: layer.module.get_parameter(local).shape for local, name in layer.parameters.items()}
    if not layer.factored:
        return FormedRows({}, shapes, values.numel(), groups_of(layer))
    weight = shapes[layer.parameters["weight"]]
    if isinstance(layer.module, nn.Embedding):
        inputs, groups, outputs = torch.zeros(len(values), 1, 0, dtype=torch.int64, device=values.device), 1, weight[1]
    else:
        groups = groups_of(layer) or 1
        width, outputs = weight if is_turned(layer.module) else (weight[1:].numel(), weight[0] // groups)
        inputs = values.new_zeros(len(values), groups, 0, width)
    deltas = values.new_zeros(*values.shape, groups, 0, outputs)
    names = layer.parameters["weight"], layer.parameters.get("bias")
    return FactoredRows(inputs, deltas, *names, weight, is_turned(layer.module))


def groups_of(layer: Layer) -> int | None:
    """The groups by which the layer's formed rows are flattened; None for the parameters' own order."""
    if not is_linear(layer) or is_turned(layer.module):
        return None
    return getattr(layer.module, "groups", 1)


def has_formula(layer: Layer) -> bool:
    """Whether the layer's gradients follow from what went in, without running its module again."""
    return _has_factors(layer) or type(layer.module) in _NORMALIZED


def is_linear(layer: Layer) -> bool:
    """Whether the layer's gradients can be held as inputs and output gradients of a dense weight."""
    if layer.others or type(layer.module) is nn.Embedding or not _has_factors(layer):
        return False
    return "weight" in layer.parameters


def is_turned(module: nn.Module) -> bool:
    """Whether it is a linear layer of transformers whose weight is (inputs, outputs), as those of GPT-2 are."""
    # Known by name, for transformers need not be there.
    return f"{type(module).__module__}.{type(module).__qualname__}" == "transformers.pytorch_utils.Conv1D"


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


def _has_factors(layer: Layer) -> bool:
    is_known = _factors_of(layer.module) is not None and _has_zero_padding(layer.module)
    return is_known and set(layer.parameters) <= {"weight", "bias"}


def _factors_of(module: nn.Module) -> "Factors | None":
    return _turned_factors if is_turned(module) else _FACTORS.get(type(module))


def _first_input_and_delta(layer: Layer, call: ModuleCall, dimensions: Dimensions) -> tuple[Tensor, Tensor]:
    """What went in (n, ...) and the gradients of what came out (n, R, ...)."""
    inputs_at, outputs_at = argument_dimensions(dimensions, call)
    if (inputs_at, outputs_at) != (0, 0) and type(layer.module) not in _ANY_ORDER and not is_turned(layer.module):
        raise NotPerExampleError
    deltas = [call.delta(r).movedim(outputs_at, 0) for r in range(len(call.deltas))]
    # A single quantity needs no copy, and keeps the memory format.
    deltas = deltas[0].unsqueeze(1) if len(deltas) == 1 else torch.stack(deltas, dim=1)
    return call.arguments[0].detach().movedim(inputs_at, 0), deltas


def _linear_rows(layer: Layer, factors: list[tuple[Tensor, Tensor]]) -> FormedRows | FactoredRows:
    inputs, deltas = factors[0]
    if len(factors) > 1:
        # A shared module's calls are as good as further positions of one call.
        inputs = torch.cat([call_inputs for call_inputs, _ in factors], dim=2)
        deltas = torch.cat([call_deltas for _, call_deltas in factors], dim=3)
    names = layer.parameters
    if "weight" not in names:
        return FormedRows.of_gradients({names["bias"]: formed_bias(deltas)}, deltas.shape[0] * deltas.shape[1])
    shape, turned = layer.module.weight.shape, is_turned(layer.module)
    rows = FactoredRows(inputs, deltas, names["weight"], names.get("bias"), shape, turned)
    return rows if layer.factored else rows.formed()


def _linear_factors(module: nn.Linear, inputs: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
    count, quantities = deltas.shape[:2]
    inputs = inputs.reshape(count, 1, -1, module.in_features)
    return inputs, deltas.reshape(count, quantities, 1, -1, module.out_features)


def _turned_factors(module: nn.Module, inputs: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
    count, quantities, (width, outputs) = *deltas.shape[:2], module.weight.shape
    return inputs.reshape(count, 1, -1, width), deltas.reshape(count, quantities, 1, -1, outputs)


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


def _norm_gradients(layer: Layer, call: ModuleCall, dimensions: Dimensions) -> dict[str, Tensor]:
    inputs, deltas = _first_input_and_delta(layer, call, dimensions)
    shape = layer.module.get_parameter(next(iter(layer.parameters))).shape
    # Layer norms act on the last dimensions, the others on the channels, which follow the examples.
    last = isinstance(layer.module, nn.LayerNorm | nn.RMSNorm)
    summed = list(range(2, deltas.dim() - len(shape))) if last else list(range(3, deltas.dim()))
    gradients = {}
    for local in layer.parameters:
        scaled = deltas * _NORMALIZED[type(layer.module)](layer.module, inputs).unsqueeze(1) if local == "weight" else deltas
        gradients[local] = scaled.sum(dim=summed) if summed else scaled
    return gradients


Factors = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]
"""What went in (n, ...) and the output gradients (n, R, ...), as FactoredRows holds them."""

_FACTORS: dict[type, Factors] = {
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

_ANY_ORDER = (nn.Linear, nn.Embedding, nn.LayerNorm, nn.RMSNorm)
"""Layers that act on the last dimensions alone, so that the examples may lie along any other."""
