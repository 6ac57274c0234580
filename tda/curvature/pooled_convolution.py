"""A convolution, an activation and a maximum over windows as one layer through which tangents go."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tda.curvature.tangent_layers import Activation, Convolution, Layer, Values

# Patches of a convolution at the places that a maximum chose are gathered while there are no more numbers than this. More than
# a few must be shared by so many tangents: to read them takes as long as the whole convolution of a few tangents.
_LARGEST_PATCHES, _FEW_PATCHES, _SHARED_BY = 2**26, 2**22, 8


@dataclass
class PooledConvolution(Layer):
    """A convolution, an activation and the maximum over windows: only the places that the maximum chose need derivatives.

    The activation then acts on a quarter of the numbers where windows are 2x2. The terms in which the inputs stand still are
    taken at those places too, where that is less work. Inputs that no window sees are cut off.
    """

    convolution: Convolution
    activation: Activation
    window: dict

    def forward(self, inputs: Tensor, values: Values) -> Tensor:
        """(b, i, h, w) -> (b, o, p, q)."""
        self.convolution.moves = self.moves
        self.size = inputs.shape[2:]
        self.seen = self._seen()
        sums = self.convolution.forward(self._cut(inputs), values)
        self.places = sums.shape[2:]
        largest, index = functional.max_pool2d(self.activation.function(sums), **self.window, return_indices=True)
        self.shape = index.shape[2:]
        self.index = index.flatten(2)
        self.activation.forward(sums.flatten(2).gather(2, self.index), values)
        self.chosen_patches: Tensor | None = None
        return largest

    def backward(self, slope: Tensor, values: Values, gradients: Values | None) -> Tensor | None:
        """(b, o, p, q) -> (b, i, h, w)."""
        convolution, activation = self.convolution, self.activation
        activation.slope = slope.flatten(2)
        self.chosen_slope = activation.slope * activation.first
        if not self._only_chosen():
            return self._uncut(convolution.backward(self._spread(self.chosen_slope[None])[0], values, gradients))
        if gradients is None:
            return None
        self._gradients_at_chosen(self.chosen_slope[None], gradients)
        for name in filter(None, (convolution.weight, convolution.bias)):
            gradients[name] = gradients[name][0].view_as(values[name])
        return None

    def tangent_forward(self, change: Tensor | None, values: Values, tangents: Values) -> Tensor:
        """(k, b, i, h, w) -> (k, b, o, p, q)."""
        shared = self.convolution.along_inputs(None if change is None else self._cut(change), values)
        if not self._at_chosen(len(tangents[self.convolution.weight])):
            own = self._gathered(self.convolution.along_weights(tangents))
        else:
            own = self._own_at_chosen(tangents)
        moved = own if shared is None else self._gathered(shared).add_(own)
        return self.activation.tangent_forward(moved, values, tangents).unflatten(3, self.shape)

    def tangent_backward(self, change: Tensor, values: Values, tangents: Values, products: Values) -> Tensor | None:
        """(k, b, o, p, q) -> (k, b, i, h, w)."""
        convolution, activation = self.convolution, self.activation
        chosen = activation.tangent_backward(change.flatten(3), values, tangents, products)
        if not self._at_chosen(len(change)):
            return self._uncut(convolution.tangent_backward(self._spread(chosen), values, tangents, products))
        self._gradients_at_chosen(chosen, products)
        products[convolution.weight] = products[convolution.weight].view_as(tangents[convolution.weight])
        convolution.add_moved_inputs(products, tangents)
        return self._uncut(convolution.below(self._spread(chosen), values, tangents)) if self.moves else None

    def example_gradients(self, gradients: Values) -> None:
        """Those of the convolution."""
        convolution = self.convolution
        if not self._only_chosen():
            convolution.example_gradients(gradients)
            return
        # Products of slopes with the patches that they weigh: (b, o, 1, p * q) and (b, o, p * q, i * kernel).
        patches = self.chosen_patches.unflatten(1, (len(self.index), -1)).transpose(0, 1)
        weight = (self.chosen_slope[:, :, None] @ patches).squeeze(2)
        gradients[convolution.weight] = weight.unflatten(2, (convolution.inputs.shape[1], *convolution.kernel))
        if convolution.bias:
            gradients[convolution.bias] = self.chosen_slope.sum(dim=2)

    def _seen(self) -> list[int]:
        """Height and width of the inputs that the windows see: where they tile, the last few sums may be in none."""
        convolution, window = self.convolution, self.window
        pairs = {name: _pair(value) for name, value in window.items() if name != "ceil_mode"}
        tiled = pairs["kernel_size"] == pairs["stride"] and pairs["padding"] == (0, 0) and pairs["dilation"] == (1, 1)
        if not tiled or window["ceil_mode"] or any(convolution.padding):
            return list(self.size)
        seen = []
        for size, kernel, stride, dilation, side in zip(
            self.size, convolution.kernel, convolution.stride, convolution.dilation, pairs["stride"], strict=True
        ):
            span = dilation * (kernel - 1) + 1
            used = ((size - span) // stride + 1) // side * side
            seen.append((used - 1) * stride + span)
        return seen

    def _cut(self, inputs: Tensor) -> Tensor:
        return inputs[..., : self.seen[0], : self.seen[1]].contiguous()

    def _uncut(self, slope: Tensor | None) -> Tensor | None:
        if slope is None or list(self.size) == self.seen:
            return slope
        return functional.pad(slope, (0, self.size[1] - self.seen[1], 0, self.size[0] - self.seen[0]))

    def _at_chosen(self, tangents: int) -> bool:
        """Whether to use the patches at chosen places, which are gathered when they are first used."""
        numbers = self.index.numel() * self.convolution.inputs.shape[1] * math.prod(self.convolution.kernel)
        if numbers > (_LARGEST_PATCHES if tangents >= _SHARED_BY else _FEW_PATCHES):
            return False
        if self.chosen_patches is None:
            self.chosen_patches = self._gathered_patches()
        return True

    def _only_chosen(self) -> bool:
        """Whether nothing is ever taken at all places."""
        return not self.moves and self._at_chosen(1)

    def _gathered_patches(self) -> Tensor:
        """(o, b * p * q, i * kernel): the patch at each chosen place."""
        patches = self.convolution.patches().transpose(1, 2).flatten(0, 1)
        batch, outputs, _ = self.index.shape
        first = math.prod(self.places) * torch.arange(batch, device=self.index.device)
        rows = (self.index + first[:, None, None]).transpose(0, 1)
        return patches.index_select(0, rows.flatten()).unflatten(0, (outputs, -1))

    def _gradients_at_chosen(self, slopes: Tensor, gradients: Values) -> None:
        """Gradients (k, o, i * kernel) and (k, o) from slopes (k, b, o, p * q) at the chosen places."""
        by_output = slopes.permute(2, 0, 1, 3).flatten(2) @ self.chosen_patches
        gradients[self.convolution.weight] = by_output.transpose(0, 1).contiguous()
        if self.convolution.bias:
            gradients[self.convolution.bias] = slopes.sum(dim=(1, 3))

    def _own_at_chosen(self, tangents: Values) -> Tensor:
        convolution, batch = self.convolution, len(self.index)
        weight = tangents[convolution.weight].flatten(2)
        own = weight.transpose(0, 1) @ self.chosen_patches.transpose(1, 2)
        own = own.unflatten(2, (batch, -1)).permute(1, 2, 0, 3)
        return own + tangents[convolution.bias][:, None, :, None] if convolution.bias else own

    def _gathered(self, change: Tensor) -> Tensor:
        return change.flatten(3).gather(3, self.index.expand(len(change), *self.index.shape))

    def _spread(self, chosen: Tensor) -> Tensor:
        whole = chosen.new_zeros(*chosen.shape[:3], math.prod(self.places))
        # Windows may overlap, so that a place is chosen twice.
        whole.scatter_add_(3, self.index.expand(len(chosen), *self.index.shape), chosen)
        return whole.unflatten(3, self.places)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
