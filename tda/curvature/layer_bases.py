"""A linear layer's or convolution's gradients as a pair of sides, inputs and output gradients, and in a basis of each side."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tda.gradients.factored_rows import FactoredRows

Sides = tuple[Tensor, Tensor]
"""A layer's inputs (n, G, T, K) and output gradients (n, R, G, T, O) of n examples, R quantities, G groups and T positions."""


@dataclass(frozen=True)
class LayerScales:
    """What a layer's gradients are multiplied by, entry by entry: the outer product of inputs (G, K) and outputs (G, O).

    K counts a layer's inputs and, where the bias is selected, 1 more.
    """

    inputs: Tensor
    outputs: Tensor


@dataclass(frozen=True)
class LayerBasis:
    """Orthonormal columns for either side: inputs (G, K, k) and outputs (G, O, o); gradients are multiplied by scales first."""

    inputs: Tensor
    outputs: Tensor
    scales: LayerScales | None

    def rotated_sides(self, rows: FactoredRows) -> Sides:
        """The sides of the layer's gradients in the basis: inputs (n, G, T, k) and output gradients (n, R, G, T, o)."""
        inputs, deltas = sides_of(rows, self.scales)
        return _rotated(inputs, self.inputs), _rotated(deltas, self.outputs)


def sides_of(rows: FactoredRows, scales: LayerScales | None) -> Sides:
    """Inputs (n, G, T, K), with 1 appended where the layer's bias is selected, and output gradients, both scaled."""
    inputs, deltas = rows.inputs, rows.deltas
    if rows.bias is not None:
        inputs = torch.cat([inputs, torch.ones_like(inputs[..., :1])], dim=-1)
    if scales is None:
        return inputs, deltas
    return inputs * scales.inputs[:, None], deltas * scales.outputs[:, None]


def _rotated(vectors: Tensor, basis: Tensor) -> Tensor:
    """Vectors (..., G, T, K) times a basis (G, K, k)."""
    # With one group this is one large product, which is faster than a small one for each example.
    return (vectors.squeeze(-3) @ basis[0]).unsqueeze(-3) if len(basis) == 1 else vectors @ basis
