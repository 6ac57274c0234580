"""Gradients, with respect to images, of parameter gradients along directions: one double backward pass for many images.

The inner product of image b's parameter gradient with a direction v_b is a sum over layers of <d, layer(a; v_b)>, a what goes
into the layer and d the gradient of what comes out, since a layer's output is linear in its own parameters. So no parameter
gradient is formed to be differentiated, every image has a direction of its own, and further directions share the pass.
"""

from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import vmap

from tda.features.directions import Directions
from tda.gradients.factored_rows import FactoredRows
from tda.gradients.forward_inspection import distinct_pair, inspected, refuse_changing_outputs
from tda.gradients.layer_rows import layer_rows
from tda.gradients.layers import Layer
from tda.gradients.quantities import Quantity, probe_quantity
from tda.gradients.recorded_pass import module_call
from tda.gradients.single_precision import in_single_precision, single_precision, without_autocast
from tda.models.model_state import trained_parameters
from tda.system.inputs import call, called_with

_LINEAR_IN_PARAMETERS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d,
)  # fmt: skip

_TOLERANCE = 1e-3
"""Largest relative error of the layers' account on a probe image, in float32."""


@dataclass(frozen=True)
class ImagePass:
    """A pass over b images whose graph is kept.

    gradients: the images' parameter gradients, detached, as directions; along: directions -> (b, c, h, w), d/dx_b <gradient of
    image b, v_b>, the directions held fixed. It may be called again and again.
    """

    gradients: Directions
    along: Callable[[Directions], Tensor]


PassMaker = Callable[[Tensor, Tensor], ImagePass]
"""Maps images (b, c, h, w) and labels (b, ...) to their ImagePass."""


def pass_maker(model: nn.Module, images: Tensor, labels: Tensor, quantity: Quantity) -> PassMaker:
    """How passes of this model are made: layer by layer where that is proved right on a probe, else image by image.

    images (n, c, h, w), labels (n, ...): of which the probe is taken. Passes run on a copy of the model in evaluation mode, so
    that makers of one model can be at work in several threads, and in float32 where the model is in 16 bits. Raises UserError
    if the output for one and the same image changes from call to call, or with the images beside it.
    """
    names = list(trained_parameters(model))
    # Convolutions with a kernel for each image are fastest in torch's own memory format.
    copied = single_precision(deepcopy(model)).eval().requires_grad_(False).to(memory_format=torch.contiguous_format)
    for module in copied.modules():
        # An activation that overwrites its input would destroy what the kept graph needs.
        if getattr(module, "inplace", False):
            module.inplace = False
    probe = in_single_precision(images[list(distinct_pair(images) or (0,))])
    image, label = probe[:1], labels[:1]
    forward = inspected(copied, lambda: call(copied, image))
    refuse_changing_outputs(copied, probe, forward)
    layers = _layers(copied, names)
    # Where the data decide what is computed, one image proves nothing of the others.
    if layers is not None and not forward.data_dependent and _account_is_right(copied, layers, names, image, label):
        return lambda images, labels: _layered_pass(copied, layers, in_single_precision(images), labels, quantity)
    return lambda images, labels: _looped_pass(copied, names, in_single_precision(images), labels, quantity)


def _layers(model: nn.Module, names: list[str]) -> list[Layer] | None:
    """The layers that hold the trained parameters, or None if a parameter is shared or held by another kind of module."""
    trained, layers = set(names), []
    for prefix, module in model.named_modules():
        own = {local: f"{prefix}.{local}" if prefix else local for local, _ in module.named_parameters(recurse=False)}
        own = {local: name for local, name in own.items() if name in trained}
        if own and not isinstance(module, _LINEAR_IN_PARAMETERS):
            return None
        if own:
            layers.append(Layer(module, own))
    found = {name for layer in layers for name in layer.parameters.values()}
    return layers if found == trained else None


def _account_is_right(model: nn.Module, layers: list[Layer], names: list[str], image: Tensor, label: Tensor) -> bool:
    """Whether the layers' account of one image agrees with plain automatic differentiation.

    Of a sum of all logits, for a loss has no gradient where a model is sure.
    """
    plain = _looped_pass(model, names, image, label, probe_quantity)
    generator = torch.Generator().manual_seed(0)
    along = {name: torch.randn(gradient.shape, generator=generator).to(gradient) for name, gradient in plain.gradients.items()}
    try:
        layered = _layered_pass(model, layers, image, label, probe_quantity)
        found = layered.along(along)
        own = layered.along(layered.gradients)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    return _close(found, plain.along(along)) and _close(own, plain.along(plain.gradients))


def _close(found: Tensor, expected: Tensor) -> bool:
    size = torch.linalg.vector_norm(expected)
    return bool(size > 0 and torch.linalg.vector_norm(found - expected) <= _TOLERANCE * size)


def _looped_pass(model: nn.Module, names: list[str], images: Tensor, labels: Tensor, quantity: Quantity) -> ImagePass:
    """For any model: each image in a graph of its own, which all its directions share."""
    graphs = []
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        leaf = image.detach().clone().requires_grad_()
        parameters = {name: model.get_parameter(name).detach().requires_grad_() for name in names}
        with without_autocast(leaf.device):
            total = quantity(call(model, leaf, parameters), label).sum()
        gradients = torch.autograd.grad(
            total, list(parameters.values()), create_graph=True, allow_unused=True, materialize_grads=True
        )
        graphs.append((leaf, gradients))

    def along(directions: Directions) -> Tensor:
        found = []
        for position, (leaf, gradients) in enumerate(graphs):
            named = zip(names, gradients, strict=True)
            product = sum((gradient * directions[name][position]).sum() for name, gradient in named)
            found.append(_gradient_of_image(product, leaf))
        return torch.cat(found)

    columns = zip(*(gradients for _, gradients in graphs), strict=True)
    return ImagePass({name: torch.stack(column).detach() for name, column in zip(names, columns, strict=True)}, along)


def _gradient_of_image(product: Tensor, leaf: Tensor) -> Tensor:
    """Zero where the product does not depend on the image, as where no trained parameter is used for it."""
    if not product.requires_grad:
        return torch.zeros_like(leaf)
    return torch.autograd.grad(product, leaf, retain_graph=True, allow_unused=True, materialize_grads=True)[0]


@dataclass
class _Call:
    """One call of a layer: what went in, what came out, and the gradient of what came out, all with their graph."""

    layer: Layer
    inputs: Tensor
    output: Tensor
    delta: Tensor


def _layered_pass(model: nn.Module, layers: list[Layer], images: Tensor, labels: Tensor, quantity: Quantity) -> ImagePass:
    leaf = images.detach().clone().requires_grad_()
    calls: list[_Call] = []
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.module.register_forward_hook(_recorder(calls, layer)).remove)
        with without_autocast(leaf.device):
            total = quantity(call(model, leaf), labels).sum()
    deltas = torch.autograd.grad(total, [call.output for call in calls], create_graph=True, materialize_grads=True)
    calls = [replace(call, delta=delta) for call, delta in zip(calls, deltas, strict=True)]

    def along(directions: Directions) -> Tensor:
        product = sum((call.delta * _output_along(call, directions)).sum() for call in calls)
        return torch.autograd.grad(product, leaf, retain_graph=True)[0]

    return ImagePass(_formed_gradients(layers, calls, len(images)), along)


def _recorder(calls: list[_Call], layer: Layer) -> Callable[[nn.Module, tuple, Tensor], None]:
    return lambda module, inputs, output: calls.append(_Call(layer, inputs[0], output, output))


def _formed_gradients(layers: list[Layer], calls: list[_Call], count: int) -> Directions:
    directions: Directions = {}
    for layer in layers:
        of_layer = [call for call in calls if call.layer is layer]
        recorded = [
            replace(module_call((call.inputs.detach(),), {}, [call.output.detach()]), deltas=[{0: call.delta.detach()}])
            for call in of_layer
        ]
        rows = layer_rows(replace(layer, factored=_is_cheaper_factored(layer, of_layer)), recorded, count)
        directions |= {rows.weight: rows} if isinstance(rows, FactoredRows) else rows.gradients()
    return directions


def _output_along(call: _Call, directions: Directions) -> Tensor:
    """The layer's output (b, ...) for its inputs with each image's direction in the place of the parameters."""
    module, names = call.layer.module, call.layer.parameters
    rows = directions.get(names.get("weight"))
    if isinstance(rows, FactoredRows):
        weights = _tokens(call.inputs) @ rows.inputs[:, 0].mT + (rows.bias is not None)
        return (weights @ rows.deltas[:, 0, 0]).view_as(call.output)
    own = {local: directions[name] for local, name in names.items()}
    if isinstance(module, nn.Linear):
        return _linear_along(call.inputs, **own)
    untrained = {local: torch.zeros_like(parameter) for local, parameter in module.named_parameters() if local not in own}

    def of_one(parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return called_with(module, parameters | untrained, (inputs[None],))[0]

    return vmap(of_one)(own, call.inputs)


def _linear_along(inputs: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    found = 0 if weight is None else _tokens(inputs) @ weight.mT
    if bias is not None:
        found = found + bias[:, None, :]
    return found.reshape(*inputs.shape[:-1], -1)


def _tokens(values: Tensor) -> Tensor:
    """(b, ..., d) -> (b, t, d)."""
    return values.reshape(len(values), -1, values.shape[-1])


def _is_cheaper_factored(layer: Layer, calls: list[_Call]) -> bool:
    """Whether a linear layer's gradient takes less room as a sum of outer products, of which a direction combines two."""
    if not isinstance(layer.module, nn.Linear) or "weight" not in layer.parameters or not calls:
        return False
    terms = 2 * sum(_tokens(call.inputs).shape[1] for call in calls)
    inputs, outputs = layer.module.in_features, layer.module.out_features
    return terms * (inputs + outputs) < inputs * outputs
