"""Derivatives, with respect to images, of inner products with parameter gradients: double backward passes for many images.

The inner product of an image's parameter gradient with a vector v is a sum over layers of <d, layer(a; v)>, a what goes into
the layer and d the gradient of what comes out, since a layer's output is linear in its own parameters. So no gradient is formed
to be differentiated, and all images that share a vector are one batch of plain layers.
"""

from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from tda.devices import image_format
from tda.layer_gradients import Layer
from tda.model_state import trained_parameters
from tda.quantities import Quantity

_NORMALISATIONS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d)
_ACCOUNTED = (nn.Linear, nn.Conv2d, *_NORMALISATIONS)

_TOLERANCE = 1e-3
"""Largest relative error of a batched derivative on a probe image, in float32."""

Vector = dict[str, Tensor]
"""Trained parameter name -> (*shape): a vector in parameter space."""

Derivative = tuple[Tensor, Tensor]
"""A value for each image (b,), and its derivative with respect to the image's pixels (b, c, h, w)."""


@dataclass(frozen=True)
class Derivatives:
    """Of a model, for images (b, c, h, w) and labels (b, ...).

    along: images, labels, v -> <gradient of image b, v> with its derivative; half_squares: images, labels -> |gradient of image
    b|^2 / 2 with its derivative.
    """

    along: Callable[[Tensor, Tensor, Vector], Derivative]
    half_squares: Callable[[Tensor, Tensor], Derivative]


def derivatives_of(model: nn.Module, image: Tensor, label: Tensor, quantity: Quantity) -> Derivatives:
    """A model's derivatives: for batches where that is proved right on a probe, else image by image.

    image (1, c, h, w), label (1, ...): the probe. They work on a copy of the model in evaluation mode, so that several threads
    can each have their own.
    """
    names = list(trained_parameters(model))
    copied = deepcopy(model).eval().requires_grad_(False).to(memory_format=image_format(image.device))
    for module in copied.modules():
        # An activation that overwrites its input would destroy what is still needed.
        if getattr(module, "inplace", False):
            module.inplace = False
    one_by_one, layers = _one_by_one(copied, names, quantity), _layers(copied, names)
    if layers is None:
        return one_by_one
    batched = Derivatives(partial(_along, copied, layers, quantity), partial(_half_squares, copied, layers, quantity))
    generator = torch.Generator().manual_seed(0)
    vector = {name: torch.randn(copied.get_parameter(name).shape, generator=generator).to(image) for name in names}
    right = _agree(batched.along, one_by_one.along, image, label, vector)
    return batched if right and _agree(batched.half_squares, one_by_one.half_squares, image, label) else one_by_one


def _agree(batched: Callable[..., Derivative], plain: Callable[..., Derivative], *probe: object) -> bool:
    try:
        found = batched(*probe)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    return all(
        torch.linalg.vector_norm(own - other) <= _TOLERANCE * torch.linalg.vector_norm(other) + 1e-30
        for own, other in zip(found, plain(*probe), strict=True)
    )


def _layers(model: nn.Module, names: list[str]) -> list[Layer] | None:
    """The layers that hold the trained parameters, or None where a parameter is held by another kind of module."""
    trained, layers = set(names), []
    for prefix, module in model.named_modules():
        own = {local: f"{prefix}.{local}" if prefix else local for local, _ in module.named_parameters(recurse=False)}
        own = {local: name for local, name in own.items() if name in trained}
        if own and not isinstance(module, _ACCOUNTED):
            return None
        if own:
            layers.append(Layer(module, own))
    found = {name for layer in layers for name in layer.parameters.values()}
    return layers if found == trained else None


def _one_by_one(model: nn.Module, names: list[str], quantity: Quantity) -> Derivatives:
    """For any model: each image in a graph of its own."""

    parameters = [model.get_parameter(name) for name in names]

    def derivative(image: Tensor, label: Tensor, value: Callable[[list[Tensor]], Tensor]) -> Derivative:
        leaf = image.detach().clone().requires_grad_()
        total = quantity(model(leaf), label).sum()
        gradients = torch.autograd.grad(total, parameters, create_graph=True, allow_unused=True, materialize_grads=True)
        found = value(list(gradients))
        return found.detach()[None], torch.autograd.grad(found, leaf)[0]

    def each(images: Tensor, labels: Tensor, value: Callable[[list[Tensor]], Tensor]) -> Derivative:
        for parameter in parameters:
            parameter.requires_grad_(True)
        found = [derivative(*one, value) for one in zip(images.split(1), labels.split(1), strict=True)]
        for parameter in parameters:
            parameter.requires_grad_(False)
        values, derivatives = zip(*found, strict=True)
        return torch.cat(values), torch.cat(derivatives)

    def along(images: Tensor, labels: Tensor, vector: Vector) -> Derivative:
        parts = [vector[name] for name in names]
        return each(images, labels, lambda found: sum((a * b).sum() for a, b in zip(found, parts, strict=True)))

    def half_squares(images: Tensor, labels: Tensor) -> Derivative:
        return each(images, labels, lambda found: sum(part.square().sum() for part in found) / 2)

    return Derivatives(along, half_squares)


@dataclass
class _Call:
    """One call of a layer: what went in, what came out, and the gradient of what came out, all with their graph."""

    layer: Layer
    inputs: Tensor
    output: Tensor
    delta: Tensor


def _along(
    model: nn.Module, layers: list[Layer], quantity: Quantity, images: Tensor, labels: Tensor, vector: Vector
) -> Derivative:
    leaf = images.detach().clone().requires_grad_()
    calls = _calls(model, layers, quantity, leaf, labels)
    return _differentiated(sum((call.delta * _output_along(call, vector)).flatten(1).sum(1) for call in calls), leaf)


def _half_squares(model: nn.Module, layers: list[Layer], quantity: Quantity, images: Tensor, labels: Tensor) -> Derivative:
    leaf = images.detach().clone().requires_grad_()
    calls = _calls(model, layers, quantity, leaf, labels)
    grouped = [[call for call in calls if call.layer is layer] for layer in layers]
    return _differentiated(sum(_squared_norms(layer, own) for layer, own in zip(layers, grouped, strict=True) if own) / 2, leaf)


def _differentiated(values: Tensor, leaf: Tensor) -> Derivative:
    return values.detach(), torch.autograd.grad(values.sum(), leaf)[0]


def _calls(model: nn.Module, layers: list[Layer], quantity: Quantity, leaf: Tensor, labels: Tensor) -> list[_Call]:
    calls: list[_Call] = []
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.module.register_forward_hook(_recorder(calls, layer)).remove)
        total = quantity(model(leaf), labels).sum()
    deltas = torch.autograd.grad(total, [call.output for call in calls], create_graph=True, materialize_grads=True)
    return [replace(call, delta=delta) for call, delta in zip(calls, deltas, strict=True)]


def _output_along(call: _Call, vector: Vector) -> Tensor:
    """The layer's output (b, ...) for its inputs with the vector in the place of its parameters."""
    module, names = call.layer.module, call.layer.parameters
    values = {local: torch.zeros_like(parameter) for local, parameter in module.named_parameters() if local not in names}
    return functional_call(module, values | {local: vector[name] for local, name in names.items()}, (call.inputs,))


def _recorder(calls: list[_Call], layer: Layer) -> Callable[[nn.Module, tuple, Tensor], None]:
    return lambda module, inputs, output: calls.append(_Call(layer, inputs[0], output, output))


def _squared_norms(layer: Layer, calls: list[_Call]) -> Tensor:
    """Squared norm (b,) of each image's gradient with respect to the layer's own parameters, over all of its calls."""
    if isinstance(layer.module, _NORMALISATIONS):
        gradients = [_normalisation_gradients(call) for call in calls]
        return sum(sum(parts).square().sum(1) for parts in zip(*gradients, strict=True))
    tokens = [_tokens(call) for call in calls]
    inputs, deltas = (torch.cat(parts, dim=2) for parts in zip(*tokens, strict=True))
    has_bias = "bias" in layer.parameters
    if "weight" not in layer.parameters:
        return deltas.sum(2).square().sum((1, 2))
    width, outputs = inputs.shape[-1], deltas.shape[-1]
    if inputs.shape[2] * (width + outputs) < width * outputs:
        # Fewer numbers than the gradient itself has.
        return ((inputs @ inputs.mT + has_bias) * (deltas @ deltas.mT)).sum((1, 2, 3))
    squares = (deltas.mT @ inputs).square().sum((1, 2, 3))
    return squares + deltas.sum(2).square().sum((1, 2)) if has_bias else squares


def _tokens(call: _Call) -> tuple[Tensor, Tensor]:
    """Inputs (b, g, t, k) and output gradients (b, g, t, o) of a linear layer's or g groups' t positions."""
    module, count = call.layer.module, len(call.inputs)
    if isinstance(module, nn.Linear):
        return call.inputs.reshape(count, 1, -1, module.in_features), call.delta.reshape(count, 1, -1, module.out_features)
    padded = call.inputs
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        padded = functional.pad(padded, module._reversed_padding_repeated_twice, mode=mode)
    own = 0 if padded is not call.inputs else module.padding
    unfolded = functional.unfold(padded, module.kernel_size, module.dilation, own, module.stride)
    return unfolded.view(count, module.groups, -1, unfolded.shape[-1]).mT, call.delta.reshape(
        count, module.groups, module.out_channels // module.groups, -1
    ).mT


def _normalisation_gradients(call: _Call) -> list[Tensor]:
    """Gradients (b, numel) with respect to the weight and the bias of a layer that normalises, those that it is asked for."""
    module = call.layer.module
    neutral = {"weight": torch.ones_like(module.weight), "bias": torch.zeros_like(module.weight)}
    plain = {local: neutral[local] for local, _ in module.named_parameters()}
    found = {"weight": call.delta * functional_call(module, plain, (call.inputs,)), "bias": call.delta}
    count, width = len(call.inputs), module.weight.numel()
    # Layer norms act on the last dimensions, the others on the channels, which follow the images.
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return [found[local].reshape(count, -1, width).sum(1) for local in call.layer.parameters]
    return [found[local].reshape(count, width, -1).sum(2) for local in call.layer.parameters]
