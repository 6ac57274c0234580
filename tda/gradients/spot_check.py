"""Compares an example's gradient in a block with the one that it has alone.

Models whose course depends on the data may do to a later batch what they did not do to the first: sort its examples, or scale
all of them by one that stands out. Nothing in what the layers process need show it. And of a parameter whose gradient was zero
for all examples of the probe nothing was proved until an example reaches it.

A rectified unit within rounding of 0 may be on one side in the block and on the other for the example alone, by which gradients
differ far more than by rounding. Where they differ, two questions take the place of one: whether the rows are what autograd
gives in the block, and whether in float64, where a unit is on one side, the block gives what the example gives alone.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tda.gradients.evaluation_mode import evaluation
from tda.gradients.forward_inspection import ForwardPass, company_error
from tda.gradients.gradient_rows import GradientRows, LayerRows
from tda.gradients.quantities import Quantity
from tda.system.errors import UserError
from tda.system.inputs import Inputs, call, cast, chosen
from tda.system.padding import in_groups

EXAMPLES_A_GRADIENT = 64
"""For one in so many examples the gradient is compared; for one in each block the value."""


@dataclass(frozen=True)
class _Derivatives:
    """Of one example its first quantity, with gradients by some parameters, and those of the length of its logits."""

    value: Tensor
    gradients: list[Tensor]
    of_logits: list[Tensor]


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
        self._refuse_other(self._alone([]).value)

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
        alone, row = self._alone(names), self.position * self.rows.values[0].numel()
        rows = self.rows.chosen(torch.tensor([row], device=alone.value.device)).gradients()
        found = [rows[name][0] for name in names]
        wrong = [name for name, differs in zip(names, self._differ(found, alone), strict=True) if differs]
        return alone.value, [] if wrong and self._differ_by_edges_alone(rows, wrong) else wrong

    def _differ_by_edges_alone(self, rows: dict[str, Tensor], names: list[str]) -> bool:
        """Whether gradients are those of the block, and differ from those of the example alone by units on their edge."""
        inputs, labels, position = self._company()
        in_block = self._differentiated(self.model, names, inputs, labels, position)
        if any(self._differ([rows[name][0] for name in names], in_block)):
            return False
        try:
            model = copy.deepcopy(self.model).double()
            in_block = self._differentiated(model, names, cast(inputs, torch.float64), labels, position)
            own, label = cast(self._own(), torch.float64), self.labels[self.position : self.position + 1]
            alone = self._differentiated(model, names, own, label, 0)
        except (torch.OutOfMemoryError, UserError):
            raise
        # A model that cannot be computed in float64 is not proved by it.
        except Exception:
            return False
        return not any(self._differ(in_block.gradients, alone))

    def _differ(self, gradients: list[Tensor], expected: _Derivatives) -> list[bool]:
        total = torch.stack([gradient.norm() for gradient in expected.gradients]).norm()
        relative, epsilon, found = self.forward.gradient_tolerance, self.forward.epsilon, []
        for given, gradient, of_logits in zip(gradients, expected.gradients, expected.of_logits, strict=True):
            allowed = relative * gradient.norm() + epsilon * (10 * total + 100 * of_logits.norm())
            found.append(bool((given - gradient).norm() > allowed))
        return found

    def _alone(self, names: list[str]) -> _Derivatives:
        labels = self.labels[self.position : self.position + 1]
        return self._differentiated(self.model, names, self._own(), labels, 0)

    def _own(self) -> Inputs:
        return chosen(self.inputs, slice(self.position, self.position + 1))

    def _company(self) -> tuple[Inputs, Tensor, int]:
        """Inputs and labels that the example was computed among, and its place there."""
        for positions, inputs, labels in in_groups(self.model, self.inputs, self.labels):
            if self.position in positions:
                return inputs, labels, int((positions == self.position).nonzero())
        return self.inputs, self.labels, self.position

    def _differentiated(
        self, model: nn.Module, names: list[str], inputs: Inputs, labels: Tensor, position: int
    ) -> _Derivatives:
        with evaluation(model, differentiable=names):
            parameters = [model.get_parameter(name) for name in names]
            logits = call(model, inputs)
            value = self.quantity(logits, labels).reshape(len(labels), -1)[position, 0]
            gradients = _gradients(value, parameters, keep=True)
            # How far rounding moves the gradient of a loss that is flat there shows in that of the logits.
            of_logits = _gradients(torch.linalg.vector_norm(logits[position]), parameters, keep=False)
        return _Derivatives(value, gradients, of_logits)

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
    if value.requires_grad and parameters:
        found = torch.autograd.grad(value, parameters, retain_graph=keep, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient.to_dense().detach()
        for gradient, parameter in zip(found, parameters, strict=True)
    ]
