"""Gradients of each example by differentiating the whole model, for parameters that no module accounts for."""

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tda.gradients.evaluation_mode import evaluation
from tda.gradients.quantities import Quantity, probe_quantity
from tda.system.errors import UserError
from tda.system.inputs import Inputs, call, chosen, count_of, mapped


def looped_gradients(
    model: nn.Module, names: Collection[str], inputs: Inputs, labels: Tensor, quantity: Quantity
) -> dict[str, Tensor]:
    """Gradients (n * R, *shape) of the named parameters by one backward pass for each example and quantity.

    A parameter that no example reaches is left out; an example that does not reach one has zeros there.
    """
    rows: list[tuple[Tensor | None, ...]] = []
    with evaluation(model, differentiable=names):
        parameters = {name: model.get_parameter(name) for name in names}
        for i in range(count_of(inputs)):
            values = quantity(call(model, chosen(inputs, slice(i, i + 1))), labels[i : i + 1]).flatten()
            for r, value in enumerate(values):
                gradients: tuple[Tensor | None, ...] = (None,) * len(parameters)
                if value.requires_grad:
                    gradients = torch.autograd.grad(
                        value, list(parameters.values()), retain_graph=r + 1 < len(values), allow_unused=True
                    )
                rows.append(gradients)
    columns = zip(parameters.items(), zip(*rows, strict=True), strict=True)
    return {
        name: _stacked(column, parameter) for (name, parameter), column in columns if any(each is not None for each in column)
    }


def vectorized_gradients(
    model: nn.Module, names: Collection[str], inputs: Inputs, labels: Tensor, quantity: Quantity
) -> dict[str, Tensor]:
    """The same for all examples at once by torch.func.vmap, which cannot follow every model; it leaves no parameter out."""
    parameters = {name: model.get_parameter(name).detach() for name in names}

    def values(parameters: dict[str, Tensor], example: Inputs, label: Tensor) -> Tensor:
        return quantity(call(model, mapped(example, lambda part: part[None]), parameters), label[None]).flatten()

    # Fused attention has no rule for vmap.
    with evaluation(model, differentiable=()), sdpa_kernel(SDPBackend.MATH):
        gradients = vmap(jacrev(values, chunk_size=1), in_dims=(None, 0, 0))(parameters, inputs, labels)
    return {name: gradient.flatten(0, 1) for name, gradient in gradients.items()}


def refuse_reentrant_checkpoints(model: nn.Module, names: Collection[str], inputs: Inputs, labels: Tensor) -> None:
    """Raise UserError where a backward pass reaches named parameters that no gradient was found for.

    torch.utils.checkpoint with use_reentrant=True hides what it wraps from all but a whole backward pass.
    """
    parameters = [model.get_parameter(name) for name in names]
    kept = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        with evaluation(model, differentiable=names):
            total = probe_quantity(call(model, inputs), labels).sum()
            if total.requires_grad:
                total.backward()
        if any(parameter.grad is not None for parameter in parameters):
            raise reentrant_error()
    finally:
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = gradient


def reentrant_error() -> UserError:
    """The refusal of a model with such checkpoints."""
    return UserError("the model has checkpoints that hide gradients; call torch.utils.checkpoint with use_reentrant=False")


def _stacked(gradients: tuple[Tensor | None, ...], parameter: nn.Parameter) -> Tensor:
    dense = [torch.zeros_like(parameter) if gradient is None else gradient.to_dense() for gradient in gradients]
    return torch.stack(dense).detach()
