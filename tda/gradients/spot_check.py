"""Compares an example's gradient in a block with the one that it has alone.

Models whose course depends on the data may do to a later batch what they did not do to the first: sort its examples, or scale
all of them by one that stands out. Nothing in what the layers process need show it. And of a parameter whose gradient was zero
for all examples of the probe nothing was proved until an example reaches it.
"""

import torch
from torch import Tensor, nn

from tda.gradients.evaluation_mode import evaluation
from tda.gradients.forward_inspection import ForwardPass, company_error
from tda.gradients.gradient_rows import GradientRows, LayerRows
from tda.gradients.quantities import Quantity
from tda.system.errors import UserError
from tda.system.inputs import Inputs, call, chosen

EXAMPLES_A_GRADIENT = 64
"""For one in so many examples the gradient is compared; for one in each block the value."""


def compare_value(
    model: nn.Module,
    rows: GradientRows,
    inputs: Inputs,
    labels: Tensor,
    quantity: Quantity,
    position: int,
    forward: ForwardPass,
) -> None:
    """Raise UserError unless the first quantity of the example at a position of the block is the one that it has alone."""
    with evaluation(model, differentiable=()), torch.enable_grad():
        _refuse_other_value(rows, _alone(model, inputs, labels, quantity, position)[1], position, forward)


def compare_gradient(
    model: nn.Module,
    names: list[str],
    rows: GradientRows,
    inputs: Inputs,
    labels: Tensor,
    quantity: Quantity,
    position: int,
    forward: ForwardPass,
) -> None:
    """The same for the value and, for the named parameters, for its gradient."""
    value, wrong = _other_gradients(model, names, rows, inputs, labels, quantity, position, forward)
    _refuse_other_value(rows, value, position, forward)
    if wrong:
        raise UserError(
            f"the gradient of {wrong[0]} for an example in a batch is not the one that the example has alone: the model "
            "regroups the examples of a batch; give it one example at a time (block_size=1, or batches of one)"
        )


def reached(rows: GradientRows, layers: list[LayerRows], names: list[list[str]]) -> list[tuple[int, list[str]]]:
    """For each layer the example with its largest first gradient, and those of its names that the example reaches.

    Not by rounding alone, such as the key bias of an attention, whose gradient is zero.
    """
    quantities = rows.values[0].numel()
    first = torch.stack([layer.squared_norms()[::quantities].argmax() for layer in layers]) * quantities
    roundings = 10 * torch.finfo(rows.values.dtype).eps * rows.chosen(first).squared_norms().sqrt()
    found = []
    for layer, own, row, rounding in zip(layers, names, first, roundings, strict=True):
        gradients = layer.chosen(row[None]).gradients()
        found.append((int(row) // quantities, [name for name in own if gradients[name].norm() > rounding]))
    return found


def wrong_gradients(
    model: nn.Module,
    names: list[str],
    rows: GradientRows,
    inputs: Inputs,
    labels: Tensor,
    quantity: Quantity,
    position: int,
    forward: ForwardPass,
) -> list[str]:
    """The names of which the example at a position of the block has another gradient alone."""
    return _other_gradients(model, names, rows, inputs, labels, quantity, position, forward)[1]


def _other_gradients(
    model: nn.Module,
    names: list[str],
    rows: GradientRows,
    inputs: Inputs,
    labels: Tensor,
    quantity: Quantity,
    position: int,
    forward: ForwardPass,
) -> tuple[Tensor, list[str]]:
    """The example's first quantity alone, and the names of which its gradient is another."""
    with evaluation(model, differentiable=names):
        parameters = [model.get_parameter(name) for name in names]
        logits, value = _alone(model, inputs, labels, quantity, position)
        expected = _gradients(value, parameters, keep=True)
        # How far rounding moves the gradient of a loss that is flat there shows in that of the logits.
        rough = _gradients(torch.linalg.vector_norm(logits), parameters, keep=False)
    quantities = rows.values[0].numel()
    found = rows.chosen(torch.tensor([position * quantities], device=value.device)).gradients()
    total = torch.stack([gradient.norm() for gradient in expected]).norm()
    wrong = []
    for name, gradient, of_logits in zip(names, expected, rough, strict=True):
        allowed = forward.gradient_tolerance * gradient.norm() + forward.epsilon * (10 * total + 100 * of_logits.norm())
        if (found[name][0] - gradient).norm() > allowed:
            wrong.append(name)
    return value, wrong


def _alone(model: nn.Module, inputs: Inputs, labels: Tensor, quantity: Quantity, position: int) -> tuple[Tensor, Tensor]:
    """The logits and the first quantity of one example in a batch of its own."""
    logits = call(model, chosen(inputs, slice(position, position + 1)))
    return logits, quantity(logits, labels[position : position + 1]).flatten()[0]


def _refuse_other_value(rows: GradientRows, value: Tensor, position: int, forward: ForwardPass) -> None:
    values = rows.values.flatten(1)[:, 0]
    if (values[position] - value).abs() > forward.output_tolerance * values.abs().max() + 100 * forward.epsilon:
        raise company_error()


def _gradients(value: Tensor, parameters: list[nn.Parameter], keep: bool) -> list[Tensor]:
    found: tuple[Tensor | None, ...] = (None,) * len(parameters)
    if value.requires_grad:
        found = torch.autograd.grad(value, parameters, retain_graph=keep, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient.to_dense().detach()
        for gradient, parameter in zip(found, parameters, strict=True)
    ]
