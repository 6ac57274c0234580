"""Which module accounts for which parameter of a model, in which form, and a proof on examples that the accounts are right."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tda.gradients.factored_rows import FactoredRows
from tda.gradients.formed_rows import FormedRows
from tda.gradients.gradient_rows import GradientRows, joined_rows
from tda.gradients.layer_rows import Layer, NotPerExampleError, factored_is_cheaper, layer_rows, per_example_tensors
from tda.gradients.quantities import Quantity
from tda.gradients.recorded_pass import ModuleCall, evaluation, record_calls
from tda.system.errors import UserError
from tda.system.inputs import Inputs, batches_of, call, chosen, count_of, device_of, joined, mapped

_TOLERANCE = 1e-3
"""Largest relative error of a parameter's gradient with which a layer's formula passes for right in float32."""


BLOCK_SIZE = 128
"""Examples in a pass, where their gradients fit: enough for the processor's kernels, few enough for its cache."""


@dataclass(frozen=True)
class GradientPlan:
    """How per-example gradients of a model are computed.

    shapes: selected parameter name -> shape, in the model's order; layers: modules that account for their parameters;
    whole_model: names that only a differentiation of the whole model for each example gets right; vectorized: whether
    torch.func.vmap can do that, or a loop must. Parameters in neither have gradient zero. A plan stays valid when the
    parameters' values change.
    """

    model: nn.Module
    shapes: dict[str, torch.Size]
    layers: list[Layer]
    whole_model: list[str]
    vectorized: bool

    def block_rows(self, inputs: Inputs, labels: Tensor, quantity: Quantity) -> GradientRows:
        """Gradients of a block of examples that fits in memory at once."""
        calls, values = record_calls(self.model, [layer.module for layer in self.layers], inputs, labels, quantity)
        rows = []
        for layer in self.layers:
            try:
                rows.append(layer_rows(layer, calls[layer.module], count_of(inputs)))
            except NotPerExampleError as error:
                names = ", ".join(layer.parameters.values())
                raise UserError(f"the model uses the parameters {names} differently from one batch to the next") from error
        if self.whole_model:
            rows.append(self._whole_model_rows(inputs, labels, quantity))
        return GradientRows(rows, values, self.shapes)

    def rows(self, inputs: Inputs, labels: Tensor, quantity: Quantity, block_size: int | None = None) -> GradientRows:
        """Gradients of the quantity for all examples, held at once; block_size examples in a pass, by default BLOCK_SIZE."""
        return joined_rows(list(self.streamed(inputs, labels, quantity, block_size or BLOCK_SIZE)))

    def streamed(self, inputs: Inputs, labels: Tensor, quantity: Quantity, block_size: int) -> Iterator[GradientRows]:
        """The same, a block after another."""
        pairs = zip(batches_of(inputs, block_size), labels.split(block_size), strict=True)
        return (self.block_rows(*pair, quantity) for pair in pairs)

    def _whole_model_rows(self, inputs: Inputs, labels: Tensor, quantity: Quantity) -> FormedRows:
        compute = _vectorized_gradients if self.vectorized else looped_gradients
        gradients = compute(self.model, self.whole_model, inputs, labels, quantity)
        parts = {name: gradient.flatten(1) for name, gradient in gradients.items()}
        return FormedRows(parts, {name: self.shapes[name] for name in parts})


def plan_gradients(
    model: nn.Module, inputs: Inputs, parameters: Collection[str] | None = None, left_examples: int = 1, right_examples: int = 1
) -> GradientPlan:
    """Choose and verify how the model's per-example gradients are computed.

    inputs: of one or more examples, of which two serve as a probe; parameters: names, by default all that the model
    trains; left_examples, right_examples: between how many examples inner products will be taken, for the choice of forms.

    Raises UserError if a name is unknown or a layer mixes the examples of a batch.
    """
    shapes = selected_shapes(model, parameters)
    refuse_batch_statistics(model)
    probe = chosen(inputs, slice(0, 2)) if count_of(inputs) > 1 else joined([inputs, inputs])
    labels = torch.zeros(2, dtype=torch.int64, device=device_of(inputs))
    expected = looped_gradients(model, list(shapes), probe, labels, _probe_quantity)
    assigned, calls = _assign(model, _owners(model, shapes), probe, labels)
    layers, unexplained = [], [name for name in shapes if name not in assigned]
    for module in dict.fromkeys(assigned.values()):
        names = [name for name, owner in assigned.items() if owner is module]
        layer, wrong = _verified_layer(Layer(module, _local_names(module, names, model)), calls[module], expected)
        unexplained += wrong
        if layer is not None:
            layers.append(_in_cheaper_form(layer, calls[module], left_examples, right_examples))
    if unexplained:
        used = _used_parameters(model, unexplained, probe)
        unexplained = [name for name in shapes if name in used]
    vectorized = bool(unexplained) and _vectorization_is_right(model, unexplained, probe, labels, expected)
    return GradientPlan(model, shapes, layers, unexplained, vectorized)


def looped_gradients(
    model: nn.Module, names: list[str], inputs: Inputs, labels: Tensor, quantity: Quantity
) -> dict[str, Tensor]:
    """Gradients (n * R, *shape) of the named parameters by one backward pass for each example and quantity."""
    rows = []
    with evaluation(model, differentiable=names):
        parameters = [model.get_parameter(name) for name in names]
        for i in range(count_of(inputs)):
            values = quantity(call(model, chosen(inputs, slice(i, i + 1))), labels[i : i + 1]).flatten()
            for r, value in enumerate(values):
                gradients = torch.autograd.grad(
                    value, parameters, retain_graph=r + 1 < len(values), allow_unused=True, materialize_grads=True
                )
                rows.append(gradients)
    return {name: torch.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _vectorized_gradients(
    model: nn.Module, names: list[str], inputs: Inputs, labels: Tensor, quantity: Quantity
) -> dict[str, Tensor]:
    parameters = {name: model.get_parameter(name).detach() for name in names}

    def values(parameters: dict[str, Tensor], example: Inputs, label: Tensor) -> Tensor:
        return quantity(call(model, mapped(example, lambda part: part[None]), parameters), label[None]).flatten()

    # Fused attention has no rule for vmap.
    with evaluation(model, differentiable=()), sdpa_kernel(SDPBackend.MATH):
        gradients = vmap(jacrev(values, chunk_size=1), in_dims=(None, 0, 0))(parameters, inputs, labels)
    return {name: gradient.flatten(0, 1) for name, gradient in gradients.items()}


def _probe_quantity(logits: Tensor, labels: Tensor) -> Tensor:
    # No loss: that of a model that is sure would have no gradient to compare.
    flat = logits.flatten(1)
    weights = torch.arange(1, flat.shape[1] + 1, device=flat.device, dtype=flat.dtype).cos()
    return flat @ weights


def selected_shapes(model: nn.Module, parameters: Collection[str] | None) -> dict[str, torch.Size]:
    """Shapes of the named parameters, by default those that require gradients; raises UserError for an unknown name or none."""
    available = dict(model.named_parameters())
    if parameters is None:
        parameters = [name for name, parameter in available.items() if parameter.requires_grad]
    unknown = sorted(set(parameters) - set(available))
    if unknown:
        raise UserError(f"the model has no parameter named {unknown[0]!r}; its parameters are {', '.join(available)}")
    selected = {name: parameter.shape for name, parameter in available.items() if name in set(parameters)}
    if not selected:
        raise UserError("no parameter is selected: name some, or let the model's parameters require gradients")
    return selected


def refuse_batch_statistics(model: nn.Module) -> None:
    """Raise UserError where a batch normalisation would take its statistics from the batch."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or not module.track_running_stats):
            raise UserError(
                f"the batch normalisation {name!r} would mix the examples of a batch, so that no example has a gradient of its "
                "own; call model.eval() first, and keep running statistics"
            )


def _owners(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """The module that holds each parameter; a parameter that several hold is left out."""
    holders = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(parameter, []).append(module)
    found = {name: holders[model.get_parameter(name)] for name in names}
    return {name: modules[0] for name, modules in found.items() if len(modules) == 1}


def _assign(
    model: nn.Module, owners: dict[str, nn.Module], probe: Inputs, labels: Tensor
) -> tuple[dict[str, nn.Module], dict[nn.Module, list[ModuleCall]]]:
    """Give each parameter to its owner or, where the owner is never called, to the nearest module above it that is.

    nn.MultiheadAttention, for one, reads its output projection's parameters without calling it. What only the model itself
    could account for is left out.
    """
    parents = {child: parent for parent in model.modules() for child in parent.children()}
    assigned = {name: module for name, module in owners.items() if module is not model}
    while True:
        calls, _ = record_calls(model, dict.fromkeys(assigned.values()), probe, labels, _probe_quantity)
        uncalled = [name for name, module in assigned.items() if not calls[module]]
        if not uncalled:
            return assigned, calls
        assigned |= {name: parents[assigned[name]] for name in uncalled}
        assigned = {name: module for name, module in assigned.items() if module is not model}


def _local_names(module: nn.Module, names: list[str], model: nn.Module) -> dict[str, str]:
    local_names = {parameter: local for local, parameter in module.named_parameters()}
    return {local_names[model.get_parameter(name)]: name for name in names}


def _verified_layer(layer: Layer, calls: list[ModuleCall], expected: dict[str, Tensor]) -> tuple[Layer | None, list[str]]:
    """The layer with those parameters whose gradients come out as expected, and the names of the others."""
    names = list(layer.parameters.values())
    count = len(expected[names[0]])
    layer = replace(layer, per_example=per_example_tensors(calls, count))
    try:
        found = layer_rows(layer, calls, count).gradients()
    except (NotPerExampleError, RuntimeError, ValueError, TypeError):
        return None, names
    wrong = _wrong_names(found, expected)
    right = {local: name for local, name in layer.parameters.items() if name not in wrong}
    return (replace(layer, parameters=right) if right else None), wrong


def _wrong_names(found: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    # A gradient that is zero but for rounding, such as that of an attention's key bias, can only be judged by the others.
    norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in expected.values()])
    rounding = 10 * torch.finfo(norms.dtype).eps * torch.linalg.vector_norm(norms)
    wrong = []
    for name, gradient in found.items():
        error = torch.linalg.vector_norm(gradient - expected[name])
        if not error <= _TOLERANCE * torch.linalg.vector_norm(expected[name]) + rounding:
            wrong.append(name)
    return wrong


def _in_cheaper_form(layer: Layer, calls: list[ModuleCall], left_examples: int, right_examples: int) -> Layer:
    factored = replace(layer, factored=True)
    rows = layer_rows(factored, calls, 2)
    cheaper = isinstance(rows, FactoredRows) and factored_is_cheaper(rows, left_examples, right_examples)
    return factored if cheaper else layer


def _used_parameters(model: nn.Module, names: list[str], probe: Inputs) -> set[str]:
    with evaluation(model, differentiable=names):
        logits = call(model, probe)
        if not logits.requires_grad:
            return set()
        gradients = torch.autograd.grad(logits.sum(), [model.get_parameter(name) for name in names], allow_unused=True)
    return {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None}


def _vectorization_is_right(
    model: nn.Module, names: list[str], probe: Inputs, labels: Tensor, expected: dict[str, Tensor]
) -> bool:
    try:
        found = _vectorized_gradients(model, names, probe, labels, _probe_quantity)
    except (RuntimeError, ValueError, TypeError):
        return False
    return not _wrong_names(found, expected)
