"""Derivatives of one optimizer step: how the state after it moves with the state before it and with the batch's gradient.

A state is the trained parameters and what the optimizer remembers of them. A step from parameters w with batch gradient g is

    total = clip(g) + decay w
    SGD:   b' = momentum b + total,  w' = w - rate b'
    Adam:  m' = beta1 m + (1 - beta1) total,  v' = beta2 v + (1 - beta2) total^2,
           w' = w - rate m^ / (sqrt(v^) + epsilon)   or, with epsilon inside the root,   w - rate m^ / sqrt(v^ + epsilon),

m^ and v^ corrected for the start (Kingma and Ba 2015). Decoupled weight decay (Loshchilov and Hutter 2019) has total = clip(g)
and (1 - rate decay) w in place of the last w. Tangents (k, *shape) follow a step forwards, adjoints (k, *shape)
backwards: the two maps below are each other's transposes. Everything is named as the trained parameters are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from tda.models.gradient_clipping import clipping_factors
from tda.models.training_plan import TrainingPlan

Values = dict[str, Tensor]

# Numbers of a tensor that a CPU works on at once: with four arrays they stay in a core's own cache.
_AT_ONCE = 2**16

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass
class Movement:
    """Tangents, or adjoints, (k, *shape) of a state: of the parameters, and of each thing that the optimizer remembers."""

    parameters: Values
    remembered: dict[str, Values] = field(default_factory=dict)


@dataclass(frozen=True)
class StepDerivative:
    """The derivative of one step that was taken.

    gradient: the batch's, before clipping and decay; before: parameters before the step; after: what the optimizer remembers
    after it, by quantity and parameter; number: of the step in its training, from 1; rate: its learning rate.
    """

    plan: TrainingPlan
    gradient: Values
    before: Values
    after: dict[str, Values]
    number: int
    rate: float

    def forward(self, moved: Movement, slopes: Values) -> None:
        """Carry tangents over the step, in place; slopes: the tangents of the batch's gradient, which are overwritten."""
        self._clip(slopes)
        for name, slope in slopes.items():
            after = self._of(name)
            arrays = [moved.parameters[name], slope, *(each[name] for each in moved.remembered.values())]
            for columns, (parameter, slope, *remembered) in _blocks(arrays):
                slope.add_(parameter, alpha=self.plan.coupled_decay)
                parameter.mul_(self.plan.shrinking(self.rate))
                after.forward(parameter, slope, remembered, columns)

    def backward(self, moved: Movement) -> Values:
        """Carry adjoints back over the step, in place but for what the gradient's curvature adds to those of the parameters.

        Returns the adjoints of the batch's gradient: their products with the batch's Hessian are still to be added.
        """
        slopes = {}
        for name, parameter in moved.parameters.items():
            after = self._of(name)
            slopes[name] = torch.empty_like(parameter, memory_format=torch.contiguous_format)
            arrays = [parameter, slopes[name], *(each[name] for each in moved.remembered.values())]
            for columns, (adjoint, slope, *remembered) in _blocks(arrays):
                after.backward(adjoint, slope, remembered, columns)
                adjoint.mul_(self.plan.shrinking(self.rate)).add_(slope, alpha=self.plan.coupled_decay)
        self._clip(slopes)
        return slopes

    def _clip(self, slopes: Values) -> None:
        """Apply the derivative of scaling the gradient down to the plan's norm, which is its own transpose, in place."""
        if self._factor == 1:
            return
        norm = self.plan.gradient_clipping / self._factor
        along = sum(slope.flatten(1) @ self.gradient[name].flatten() for name, slope in slopes.items()) / norm**2
        for name, slope in slopes.items():
            gradient = self.gradient[name]
            slope.sub_(along.view(-1, *(1,) * gradient.dim()) * gradient).mul_(self._factor)

    def _of(self, name: str) -> "_Momentum | _Adam":
        if self.plan.momentum is not None:
            return _Momentum(self.plan.momentum, self.rate)
        total = (self._factor * self.gradient[name] + self.plan.coupled_decay * self.before[name]).flatten()
        mean, square = (self.after[quantity][name].flatten() for quantity in ("exp_avg", "exp_avg_sq"))
        return _Adam.of(mean, square, total, self.number, self.rate, self.plan.adam_epsilon_inside)

    @cached_property
    def _factor(self) -> float:
        """What clipping scaled the gradient by."""
        limit = self.plan.gradient_clipping
        return 1.0 if limit is None else float(clipping_factors(list(self.gradient.values()), limit))


def still(values: Values, plan: TrainingPlan, count: int) -> Movement:
    """`count` tangents, or adjoints, that are zero."""
    quantities = ("momentum_buffer",) if plan.momentum is not None else ("exp_avg", "exp_avg_sq")

    def zeros() -> Values:
        return {name: value.new_zeros(count, *value.shape) for name, value in values.items()}

    return Movement(zeros(), {quantity: zeros() for quantity in quantities})


@dataclass(frozen=True)
class _Momentum:
    momentum: float
    rate: float

    def forward(self, parameter: Tensor, slope: Tensor, remembered: list[Tensor], columns: slice) -> None:
        (buffer,) = remembered
        buffer.mul_(self.momentum).add_(slope)
        parameter.sub_(buffer, alpha=self.rate)

    def backward(self, adjoint: Tensor, slope: Tensor, remembered: list[Tensor], columns: slice) -> None:
        (buffer,) = remembered
        buffer.sub_(adjoint, alpha=self.rate)
        slope.copy_(buffer)
        buffer.mul_(self.momentum)


@dataclass(frozen=True)
class _Adam:
    """by_mean, by_square: the update's derivatives by what Adam remembers; by_slope: the square's by the gradient."""

    by_mean: Tensor
    by_square: Tensor
    by_slope: Tensor

    @classmethod
    def of(cls, mean: Tensor, square: Tensor, total: Tensor, number: int, rate: float, inside: float | None) -> "_Adam":
        first, second = 1 - _BETA1**number, 1 - _BETA2**number
        if inside is None:
            root = (square / second).sqrt()
            whole = root + _EPSILON
            # The root has no derivative at 0; a square that is 0 has never moved, nor have its tangents.
            by_square = torch.where(root > 0, mean / first / (2 * root * whole.square()) / second, 0)
        else:
            whole = (square / second + inside).sqrt()
            by_square = mean / first / (2 * whole**3) / second
        return cls(rate / first / whole, rate * by_square, 2 * (1 - _BETA2) * total)

    def forward(self, parameter: Tensor, slope: Tensor, remembered: list[Tensor], columns: slice) -> None:
        mean, square = remembered
        mean.lerp_(slope, 1 - _BETA1)
        square.mul_(_BETA2).addcmul_(slope, self.by_slope[columns])
        parameter.addcmul_(mean, self.by_mean[columns], value=-1).addcmul_(square, self.by_square[columns])

    def backward(self, adjoint: Tensor, slope: Tensor, remembered: list[Tensor], columns: slice) -> None:
        mean, square = remembered
        mean.addcmul_(adjoint, self.by_mean[columns], value=-1)
        square.addcmul_(adjoint, self.by_square[columns])
        slope.copy_(mean).mul_(1 - _BETA1).addcmul_(square, self.by_slope[columns])
        mean.mul_(_BETA1)
        square.mul_(_BETA2)


def _blocks(arrays: list[Tensor]) -> Iterator[tuple[slice, list[Tensor]]]:
    """Views of arrays (k, *shape) as matrices, cut into blocks of columns; a copy of one that is not laid out in order."""
    matrices = [array.reshape(len(array), -1) for array in arrays]
    count, width = matrices[0].shape
    step = max(1, _AT_ONCE // count) if matrices[0].device.type == "cpu" else max(1, width)
    for start in range(0, width, step):
        columns = slice(start, start + step)
        yield columns, [matrix[:, columns] for matrix in matrices]
