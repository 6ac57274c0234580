"""Compares an example's gradient in a block with the one that it has alone.

Models whose course depends on the data may do to a later batch what they did not do to the first: sort its examples, or scale
all of them by one that stands out. Nothing in what the layers process need show it. And of a parameter whose gradient was zero
for all examples of the probe nothing was proved until an example reaches it.
"""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class SpotCheck:
    """An example at a position of a block, whose rows are compared with what the model gives for it alone."""

    model: nn.Module
    rows: GradientRows
    inputs: Inputs
    labels: Tensor
    quantity: Quantity
    position: int
    forward: ForwardPass

    def compare_value(self) -> None:
        """Raise UserError unless the example's first quantity is the one that it has alone."""
        with evaluation(self.model, differentiable=()):
            self._refuse_other(self._alone()[1])

    def compare_gradient(self, names: list[str]) -> None:
        """The same for the value and, for the named parameters, for its gradient."""
        value, wrong = self._value_and_wrong(names)
        self._refuse_other(value)
        if wrong:
            raise UserError(
                f"the gradient of {wrong[0]} for an example in a batch is not the one that the example has alone: the model "
                "regroups the examples of a batch; give it one example at a time (block_size=1, or batches of one)"
            )

    def wrong_gradients(self, names: list[str]) -> list[str]:
        """Those of the names of which the example's gradient is another alone."""
        return self._value_and_wrong(names)[1]

    def _value_and_wrong(self, names: list[str]) -> tuple[Tensor, list[str]]:
        with evaluation(self.model, differentiable=names):
            parameters = [self.model.get_parameter(name) for name in names]
            logits, value = self._alone()
            expected = _gradients(value, parameters, keep=True)
            # How far rounding moves the gradient of a loss that is flat there shows in that of the logits.
            rough = _gradients(torch.linalg.vector_norm(logits), parameters, keep=False)
        quantities = self.rows.values[0].numel()
        found = self.rows.chosen(torch.tensor([self.position * quantities], device=value.device)).gradients()
        total = torch.stack([gradient.norm() for gradient in expected]).norm()
        relative, epsilon, wrong = self.forward.gradient_tolerance, self.forward.epsilon, []
        for name, gradient, of_logits in zip(names, expected, rough, strict=True):
            allowed = relative * gradient.norm() + epsilon * (10 * total + 100 * of_logits.norm())
            if (found[name][0] - gradient).norm() > allowed:
                wrong.append(name)
        return value, wrong

    def _alone(self) -> tuple[Tensor, Tensor]:
        """The logits and the first quantity of the example in a batch of its own."""
        own = slice(self.position, self.position + 1)
        logits = call(self.model, chosen(self.inputs, own))
        return logits, self.quantity(logits, self.labels[own]).flatten()[0]

    def _refuse_other(self, value: Tensor) -> None:
        values, forward = self.rows.values.flatten(1)[:, 0], self.forward
        if (values[self.position] - value).abs() > forward.output_tolerance * values.abs().max() + 100 * forward.epsilon:
            raise company_error()


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


def _gradients(value: Tensor, parameters: list[nn.Parameter], keep: bool) -> list[Tensor]:
    found: tuple[Tensor | None, ...] = (None,) * len(parameters)
    if value.requires_grad:
        found = torch.autograd.grad(value, parameters, retain_graph=keep, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient.to_dense().detach()
        for gradient, parameter in zip(found, parameters, strict=True)
    ]
