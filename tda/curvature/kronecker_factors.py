"""Eigenvalue-corrected Kronecker factors of a model's curvature, and gradients in the basis in which they are diagonal.

For a layer with inputs a (with 1 for the bias) and output gradients d, the curvature of its weights is taken as block U L U^T:
U is the Kronecker product of the eigenvectors of E[a a^T] and of E[d d^T], and L is diagonal, the mean square of the layer's
gradients along each of U's directions (George et al. 2018). Layers do not mix; a layer's groups are blocks of their own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tda.data.splits import Split
from tda.gradients.factored_rows import FactoredRows, formed_weight
from tda.gradients.gradient_kernel import examples_at_once
from tda.gradients.gradient_plan import GradientPlan
from tda.gradients.layer_rows import is_linear
from tda.gradients.quantities import Quantity
from tda.system.errors import UserError


@dataclass(frozen=True)
class LayerFactors:
    """One layer's eigenbasis and curvature in it.

    inputs: (G, K, k), orthonormal columns; outputs: (G, O, O); eigenvalues: (G * k * O,), the mean squares of gradients;
    mean: the mean of all G * K * O eigenvalues. Directions that no training input reaches are left out (k < K): eigenvalues
    and training gradients are 0 there, so that scores do not see them.
    """

    inputs: Tensor
    outputs: Tensor
    eigenvalues: Tensor
    mean: float

    def rotated(self, rows: FactoredRows) -> Tensor:
        """The layer's gradients in the eigenbasis: (rows, G * k * O)."""
        return formed_weight(_with_bias(rows) @ self.inputs, rows.deltas @ self.outputs)


def factored_plan(plan: GradientPlan) -> GradientPlan:
    """A plan of the same model that holds linear layers' and convolutions' gradients as factors, and no others.

    Raises UserError if there are no such layers.
    """
    layers = [layer for layer in plan.layers if is_linear(layer)]
    if not layers:
        raise UserError("EK-FAC needs a model with linear layers or convolutions whose weights are trained, and this has none")
    return replace(plan, layers=[replace(layer, factored=True) for layer in layers], whole_model=[], resting=[])


def blocks_of_rows(plan: GradientPlan, split: Split, quantity: Quantity) -> Iterator[list[FactoredRows]]:
    """Every layer's rows of a factored plan, block after block of the examples."""
    example_bytes = plan.example_bytes(split.inputs, split.labels, quantity)
    size = examples_at_once(plan, split.inputs, example_bytes)
    for rows in plan.streamed(split.inputs, split.labels, quantity, size):
        yield rows.layers


def kronecker_factors(plan: GradientPlan, train: Split, quantity: Quantity) -> list[LayerFactors]:
    """Fit the factors of every layer of a factored plan to the gradients of the quantity, in two passes over the examples.

    With quantities.curvature_roots the curvature is the Fisher matrix with its expectation over labels taken exactly; with the
    loss it is the empirical Fisher matrix. Both are means over examples.
    """
    bases = _bases(blocks_of_rows(plan, train, quantity), len(train))
    squares = [0.0] * len(bases)
    for block in blocks_of_rows(plan, train, quantity):
        squares = [total + _sum_of_squares(rows, *basis) for total, rows, basis in zip(squares, block, bases, strict=True)]
    found = []
    for total, (inputs, outputs) in zip(squares, bases, strict=True):
        entries = inputs.shape[0] * inputs.shape[1] * outputs.shape[1]
        found.append(LayerFactors(inputs, outputs, total / len(train), float(total.sum() / len(train) / entries)))
    return found


def _bases(blocks: Iterator[list[FactoredRows]], num_examples: int) -> list[tuple[Tensor, Tensor]]:
    """Eigenvectors of the input and the output covariances of every layer."""
    inputs, outputs = None, None
    for block in blocks:
        inputs = inputs or [_InputCovariance(rows, num_examples) for rows in block]
        outputs = outputs or [0.0] * len(block)
        for covariance, rows in zip(inputs, block, strict=True):
            covariance.add(rows)
        outputs = [total + _output_covariance(rows) for total, rows in zip(outputs, block, strict=True)]
    return [
        (covariance.eigenvectors(), torch.linalg.eigh(total)[1].to(rows.deltas.dtype))
        for covariance, total, rows in zip(inputs, outputs, block, strict=True)
    ]


class _InputCovariance:
    """Collects a layer's inputs: as they are while they are fewer than their width, else as a covariance matrix."""

    def __init__(self, rows: FactoredRows, num_examples: int) -> None:
        *_, positions, width = rows.inputs.shape
        self.dtype = rows.inputs.dtype
        self.keeps_inputs = num_examples * positions < width + (rows.bias is not None)
        self.kept: list[Tensor] = []
        self.total: Tensor | float = 0.0

    def add(self, rows: FactoredRows) -> None:
        inputs = _with_bias(rows).transpose(0, 1).flatten(1, 2)
        if self.keeps_inputs:
            self.kept.append(inputs)
        else:
            self.total = self.total + (inputs.mT @ inputs).double()

    def eigenvectors(self) -> Tensor:
        """(G, K, k)."""
        if self.keeps_inputs:
            return torch.linalg.svd(torch.cat(self.kept, dim=1).double(), full_matrices=False).Vh.mT.to(self.dtype)
        return torch.linalg.eigh(self.total)[1].to(self.dtype)


def _with_bias(rows: FactoredRows) -> Tensor:
    """Inputs (n, G, T, K), with 1 appended where the layer's bias is selected."""
    if rows.bias is None:
        return rows.inputs
    return torch.cat([rows.inputs, torch.ones_like(rows.inputs[..., :1])], dim=-1)


def _output_covariance(rows: FactoredRows) -> Tensor:
    deltas = rows.deltas.permute(2, 0, 1, 3, 4).flatten(1, 3)
    return (deltas.mT @ deltas).double()


def _sum_of_squares(rows: FactoredRows, inputs: Tensor, outputs: Tensor) -> Tensor:
    """Sum over rows of squared gradients in the eigenbasis: (G * k * O,)."""
    rotated_inputs, deltas = _with_bias(rows) @ inputs, rows.deltas @ outputs
    if deltas.shape[3] == 1:
        # A gradient is then one outer product, and its square the product of squares.
        squares = deltas.square().sum(dim=1)
        return torch.einsum("ngk,ngo->gko", rotated_inputs[:, :, 0].square(), squares[:, :, 0]).flatten()
    return formed_weight(rotated_inputs, deltas).square().sum(dim=0)
