"""The gradients of a module without a formula of its own, by running it again on each example."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_unflatten

from tda.gradients.evaluation_mode import evaluation
from tda.gradients.layers import Dimensions, Layer
from tda.gradients.recorded_pass import ModuleCall, floating_tensors
from tda.system.inputs import called_with


def module_gradients(layer: Layer, call: ModuleCall, dimensions: Dimensions) -> dict[str, Tensor]:
    """Gradients (n, R, *shape) by name below the module, of a call that processed one entry for each of n examples."""
    # Fused attention has no rule for vmap.
    with evaluation(layer.module, differentiable=()), sdpa_kernel(SDPBackend.MATH):
        return (_vectorized if layer.vectorized else _looped)(layer, call, dimensions)


def _vectorized(layer: Layer, call: ModuleCall, dimensions: Dimensions) -> dict[str, Tensor]:
    run = running_again(layer, call)
    parameters = _parameters(layer)

    def gradients(tensors: list[Tensor], deltas: list[Tensor]) -> dict[str, Tensor]:
        tensors = _with_examples(tensors, dimensions.inputs)
        _, pull_back = vjp(lambda parameters: run(parameters, tensors), parameters)
        return pull_back(_with_examples(deltas, dimensions.outputs))[0]

    per_example = vmap(gradients, in_dims=(list(dimensions.inputs), list(dimensions.outputs)))
    tensors = [tensor.detach() for tensor in call.inputs]
    outputs = range(len(call.outputs))
    each = [per_example(tensors, [call.delta(r, i) for i in outputs]) for r in range(len(call.deltas))]
    return {local: torch.stack([gradient[local] for gradient in each], dim=1) for local in layer.parameters}


def _looped(layer: Layer, call: ModuleCall, dimensions: Dimensions) -> dict[str, Tensor]:
    run = running_again(layer, call)
    rows: dict[str, list[Tensor]] = {local: [] for local in layer.parameters}
    count = _count(call, dimensions)
    for example in range(count):
        tensors = _narrowed([tensor.detach() for tensor in call.inputs], dimensions.inputs, example)
        parameters = {local: parameter.requires_grad_() for local, parameter in _parameters(layer).items()}
        # The module may write to what it is given.
        outputs = run(parameters, [tensor.clone() for tensor in tensors])
        for r in range(len(call.deltas)):
            deltas = _narrowed([call.delta(r, i) for i in range(len(call.outputs))], dimensions.outputs, example)
            found: tuple[Tensor | None, ...] = (None,) * len(parameters)
            if reached := [place for place, output in enumerate(outputs) if output.requires_grad]:
                found = torch.autograd.grad(
                    [outputs[place] for place in reached],
                    list(parameters.values()),
                    [deltas[place] for place in reached],
                    retain_graph=r + 1 < len(call.deltas),
                    allow_unused=True,
                )
            for (local, parameter), gradient in zip(parameters.items(), found, strict=True):
                rows[local].append(torch.zeros_like(parameter) if gradient is None else gradient.to_dense())
    return {local: torch.stack(each).detach().unflatten(0, (count, -1)) for local, each in rows.items()}


def _count(call: ModuleCall, dimensions: Dimensions) -> int:
    pairs = zip([*call.outputs, *call.inputs], [*dimensions.outputs, *dimensions.inputs], strict=True)
    return next(tensor.shape[dimension] for tensor, dimension in pairs if dimension is not None)


def running_again(layer: Layer, call: ModuleCall) -> Callable[[dict[str, Tensor], list[Tensor]], list[Tensor]]:
    """A module's floating outputs as a function of its parameters, by name below it, and of the tensors that went in."""
    leaves, structure = tree_flatten((call.arguments, call.keywords))
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def run(parameters: dict[str, Tensor], tensors: list[Tensor]) -> list[Tensor]:
        given = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            given[place] = tensor
        arguments, keywords = tree_unflatten(given, structure)
        return floating_tensors(called_with(layer.module, parameters, arguments, keywords))

    return run


def _parameters(layer: Layer) -> dict[str, Tensor]:
    return {local: layer.module.get_parameter(local).detach() for local in layer.parameters}


def _with_examples(tensors: list[Tensor], dimensions: tuple[int | None, ...]) -> list[Tensor]:
    """Tensors of one example as those of a batch of one."""
    return [
        tensor if dimension is None else tensor.unsqueeze(dimension)
        for tensor, dimension in zip(tensors, dimensions, strict=True)
    ]


def _narrowed(tensors: list[Tensor], dimensions: tuple[int | None, ...], example: int) -> list[Tensor]:
    """The part of one example, as a batch of one."""
    return [
        tensor if dimension is None else tensor.narrow(dimension, example, 1)
        for tensor, dimension in zip(tensors, dimensions, strict=True)
    ]
