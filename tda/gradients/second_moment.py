"""The sum of outer products of gradient rows, B^T B in parameter space: for models with few parameters and many examples.

A single linear layer's row is an outer product of an input and an output gradient, so that its entries between two outputs
are one weighted product of the inputs; rows of other models are formed.
"""

import torch
from torch import Tensor

from tda.gradients.factored_rows import FactoredRows
from tda.gradients.gradient_rows import GradientRows

_ROWS_AT_ONCE = 4096


def second_moment(rows: GradientRows) -> Tensor:
    """B^T B (p, p) of rows B (rows, p), parameters laid end to end in the model's order; in the rows' precision."""
    if len(rows.layers) == 1 and _is_plain(rows.layers[0]) and list(rows.shapes) == _names(rows.layers[0]):
        return _of_linear_layer(rows.layers[0])
    size = sum(shape.numel() for shape in rows.shapes.values())
    dense, found = rows.dense(), rows.values.new_zeros(size, size)
    for part in dense.split(_ROWS_AT_ONCE):
        found.addmm_(part.T, part)
    return found


def _is_plain(layer: object) -> bool:
    """Whether it is a linear layer with one position and no groups."""
    is_linear = isinstance(layer, FactoredRows) and not layer.holds_tokens and not layer.turned
    return is_linear and layer.inputs.shape[1:3] == (1, 1)


def _names(layer: FactoredRows) -> list[str]:
    return [layer.weight] if layer.bias is None else [layer.weight, layer.bias]


def _of_linear_layer(layer: FactoredRows) -> Tensor:
    """Entry ((o, k), (o', k')) is sum over examples of a_k a_k' times sum over quantities of d_o d_o'; a bias has a_k = 1."""
    inputs, deltas = layer.inputs[:, 0, 0], layer.deltas[:, :, 0, 0]
    if layer.bias is not None:
        inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)
    width, outputs = inputs.shape[1], deltas.shape[2]
    found = inputs.new_empty(outputs, width, outputs, width)
    for first in range(outputs):
        for second in range(first + 1):
            products = (deltas[:, :, first] * deltas[:, :, second]).sum(dim=1)
            block = (inputs * products[:, None]).T @ inputs
            found[first, :, second] = block
            found[second, :, first] = block.T
    position = torch.arange(outputs * width, device=inputs.device).view(outputs, width)
    order = position[:, :-1].flatten() if layer.bias is not None else position.flatten()
    if layer.bias is not None:
        order = torch.cat([order, position[:, -1]])
    return found.view(outputs * width, outputs * width)[order][:, order]
