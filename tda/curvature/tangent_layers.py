"""Layers through which k tangents go at once: derivatives of a layer's forward and backward pass along k directions.

Pearlmutter's R-operator (1994), layer by layer. Every product is one dense operator over all k tangents, and what they share,
activations and weights, is never repeated k times. Functional transforms give the same numbers in two to three times the
time, and only one thread of a process may use them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

Values = dict[str, Tensor]


class Layer(Protocol):
    """out = f(a, w) with the loss's derivative d by its output; bound to one batch, it keeps what later calls need.

    Activations are (b, ...), tangents (k, b, ...); the methods are called in their order below. A tangent that is None is zero:
    that of the network's inputs, which do not move. moves: whether a trained layer lies below, so that derivatives go on there.
    """

    moves = True

    def forward(self, inputs: Tensor, values: Values) -> Tensor:
        """The output; values: parameters by name."""

    def backward(self, slope: Tensor, values: Values, gradients: Values | None) -> Tensor | None:
        """The derivative by the input from that by the output; those by trained parameters go into `gradients`, if any."""

    def tangent_forward(self, change: Tensor | None, values: Values, tangents: Values) -> Tensor | None:
        """The output's tangents; tangents: those (k, *shape) of the trained parameters."""

    def tangent_backward(self, change: Tensor, values: Values, tangents: Values, products: Values) -> Tensor | None:
        """The tangents of what `backward` returned, and of the gradients, which go into `products`."""

    def example_gradients(self, gradients: Values) -> None:
        """Each example's own gradients (b, *shape), into `gradients`."""


@dataclass
class Linear(Layer):
    """out = a w^T + b, of examples that are vectors."""

    weight: str
    bias: str | None

    def forward(self, inputs: Tensor, values: Values) -> Tensor:
        """(b, i) -> (b, o)."""
        self.inputs = inputs
        return functional.linear(inputs, values[self.weight], values.get(self.bias))

    def backward(self, slope: Tensor, values: Values, gradients: Values | None) -> Tensor | None:
        """(b, o) -> (b, i)."""
        self.slope = slope
        if gradients is not None:
            gradients[self.weight] = slope.T @ self.inputs
        if gradients is not None and self.bias:
            gradients[self.bias] = slope.sum(dim=0)
        return slope @ values[self.weight] if self.moves else None

    def tangent_forward(self, change: Tensor | None, values: Values, tangents: Values) -> Tensor:
        """(k, b, i) -> (k, b, o)."""
        self.change = change
        total = self.inputs @ tangents[self.weight].transpose(1, 2)
        if change is not None:
            total += change @ values[self.weight].T
        return total if self.bias is None else total.add_(tangents[self.bias][:, None])

    def tangent_backward(self, change: Tensor, values: Values, tangents: Values, products: Values) -> Tensor | None:
        """(k, b, o) -> (k, b, i)."""
        products[self.weight] = change.transpose(1, 2) @ self.inputs
        if self.change is not None:
            products[self.weight] += self.slope.T @ self.change
        if self.bias:
            products[self.bias] = change.sum(dim=1)
        return change @ values[self.weight] + self.slope @ tangents[self.weight] if self.moves else None

    def example_gradients(self, gradients: Values) -> None:
        """Outer products of slopes and inputs."""
        gradients[self.weight] = self.slope[:, :, None] * self.inputs[:, None]
        if self.bias:
            gradients[self.bias] = self.slope


@dataclass
class Convolution(Layer):
    """A two-dimensional convolution without groups, padded by zeros."""

    weight: str
    bias: str | None
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def forward(self, inputs: Tensor, values: Values) -> Tensor:
        """(b, i, h, w) -> (b, o, h', w')."""
        self.inputs = inputs
        return self._convolved(inputs, values[self.weight], values.get(self.bias))

    def backward(self, slope: Tensor, values: Values, gradients: Values | None) -> Tensor | None:
        """(b, o, h', w') -> (b, i, h, w)."""
        self.slope = slope
        if gradients is not None:
            gradients[self.weight] = self._by_weight(slope, self.inputs, values[self.weight])
        if gradients is not None and self.bias:
            gradients[self.bias] = slope.sum(dim=(0, 2, 3))
        return self._by_inputs(slope, self.inputs, values[self.weight]) if self.moves else None

    def tangent_forward(self, change: Tensor | None, values: Values, tangents: Values) -> Tensor:
        """(k, b, i, h, w) -> (k, b, o, h', w')."""
        own, shared = self.along_weights(tangents), self.along_inputs(change, values)
        return own if shared is None else shared.add_(own)

    def along_inputs(self, change: Tensor | None, values: Values) -> Tensor | None:
        """What the inputs' tangents do to the output."""
        self.change = change
        if change is None:
            return None
        return self._convolved(change.flatten(0, 1), values[self.weight]).unflatten(0, change.shape[:2])

    def along_weights(self, tangents: Values) -> Tensor:
        """What the parameters' tangents do to it: one convolution with k * o outputs."""
        weight = tangents[self.weight]
        bias = tangents[self.bias].flatten() if self.bias else None
        return self._convolved(self.inputs, weight.flatten(0, 1), bias).unflatten(1, weight.shape[:2]).transpose(0, 1)

    def tangent_backward(self, change: Tensor, values: Values, tangents: Values, products: Values) -> Tensor | None:
        """(k, b, o, h', w') -> (k, b, i, h, w)."""
        weight = tangents[self.weight]
        products[self.weight] = self._by_weight(_beside(change), self.inputs, weight.flatten(0, 1)).view(weight.shape)
        if self.bias:
            products[self.bias] = change.sum(dim=(1, 3, 4))
        self.add_moved_inputs(products, tangents)
        return self.below(change, values, tangents) if self.moves else None

    def add_moved_inputs(self, products: Values, tangents: Values) -> None:
        """What the inputs' tangents do to the weight's gradient."""
        if self.change is not None:
            k, _, inputs = tangents[self.weight].shape[:3]
            stacked = self._by_weight(self.slope, _beside(self.change), _outputs_first(tangents[self.weight]))
            products[self.weight] += stacked.unflatten(1, (k, inputs)).transpose(0, 1)

    def below(self, change: Tensor, values: Values, tangents: Values) -> Tensor:
        """The tangents of the derivative by the inputs."""
        k, b = change.shape[:2]
        size = self.inputs.shape[1:]
        like = self.inputs.new_empty(1).expand(k * b, *size)
        shared = self._by_inputs(change.flatten(0, 1), like, values[self.weight]).unflatten(0, (k, b))
        like = self.inputs.new_empty(1).expand(b, k * size[0], *size[1:])
        own = self._by_inputs(self.slope, like, _outputs_first(tangents[self.weight]))
        return shared.add_(own.unflatten(1, (k, size[0])).transpose(0, 1))

    def example_gradients(self, gradients: Values) -> None:
        """Products of slopes with the patches that they weigh."""
        slope = self.slope.flatten(2)
        patches = self.patches().transpose(1, 2)
        gradients[self.weight] = (slope @ patches).unflatten(2, (self.inputs.shape[1], *self.kernel))
        if self.bias:
            gradients[self.bias] = slope.sum(dim=2)

    def patches(self) -> Tensor:
        """What each place of the output sees of the inputs: (b, i * kernel, places)."""
        return functional.unfold(self.inputs, self.kernel, self.dilation, self.padding, self.stride)

    def _convolved(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.conv2d(inputs, weight, bias, self.stride, self.padding, self.dilation)

    def _by_inputs(self, slope: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
        return self._backward(slope, inputs, weight, [True, False, False])[0]

    def _by_weight(self, slope: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
        return self._backward(slope, inputs, weight, [False, True, False])[1]

    def _backward(self, slope: Tensor, inputs: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor, ...]:
        geometry = (list(self.stride), list(self.padding), list(self.dilation), False, [0, 0], 1)
        return torch.ops.aten.convolution_backward(slope, inputs, weight, None, *geometry, wanted)


@dataclass
class Activation(Layer):
    """A function of each number, by its first and second derivative."""

    function: Callable[[Tensor], Tensor]
    slopes: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    """The first and second derivative at numbers; None is zero everywhere."""

    def forward(self, inputs: Tensor, values: Values) -> Tensor:
        """The function's values."""
        self.first, self.second = self.slopes(inputs)
        return self.function(inputs)

    def backward(self, slope: Tensor, values: Values, gradients: Values | None) -> Tensor | None:
        """The slope times the first derivative."""
        self.slope = slope
        return slope * self.first if self.moves else None

    def tangent_forward(self, change: Tensor | None, values: Values, tangents: Values) -> Tensor | None:
        """The change times the first derivative."""
        self.change = change
        return None if change is None else change * self.first

    def tangent_backward(self, change: Tensor, values: Values, tangents: Values, products: Values) -> Tensor | None:
        """The product rule."""
        if not self.moves:
            return None
        moved = change * self.first
        if self.second is not None and self.change is not None:
            moved.addcmul_(self.slope * self.second, self.change)
        return moved


@dataclass
class Reshaping(Layer):
    """A linear map without parameters that acts on every example alike: flattening, mean over windows, a factor."""

    function: Callable[[Tensor], Tensor]

    def forward(self, inputs: Tensor, values: Values) -> Tensor:
        """The map of the inputs."""
        with torch.enable_grad():
            self.inputs = torch.zeros_like(inputs, requires_grad=True)
            self.transposed = self.function(self.inputs)
        return self.function(inputs)

    def backward(self, slope: Tensor, values: Values, gradients: Values | None) -> Tensor | None:
        """Its transpose."""
        return self._pulled_back(slope) if self.moves else None

    def tangent_forward(self, change: Tensor | None, values: Values, tangents: Values) -> Tensor | None:
        """The map of every tangent."""
        return None if change is None else self.function(change.flatten(0, 1)).unflatten(0, change.shape[:2])

    def tangent_backward(self, change: Tensor, values: Values, tangents: Values, products: Values) -> Tensor | None:
        """Its transpose for every tangent."""
        if not self.moves:
            return None
        with torch.enable_grad():
            zeros = torch.zeros(len(change) * self.inputs.shape[0], *self.inputs.shape[1:]).to(change).requires_grad_()
            (found,) = torch.autograd.grad(self.function(zeros), zeros, change.flatten(0, 1))
        return found.unflatten(0, change.shape[:2])

    def _pulled_back(self, slope: Tensor) -> Tensor:
        return torch.autograd.grad(self.transposed, self.inputs, slope)[0]


def _beside(change: Tensor) -> Tensor:
    """(k, b, c, h, w) -> (b, k * c, h, w): tangents as channels beside each other."""
    return change.transpose(0, 1).flatten(1, 2)


def _outputs_first(weight: Tensor) -> Tensor:
    """(k, o, i, *kernel) -> (o, k * i, *kernel)."""
    return weight.transpose(0, 1).flatten(1, 2)
