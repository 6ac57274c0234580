"""Functions of a curvature matrix, such as exp(-t G), times many vectors at once.

The matrix is P^1/2 G P^1/2, G the Gauss-Newton matrix of the mean training loss, averaged over several checkpoints of a model,
and P a positive diagonal (an optimizer's preconditioner, or 1). Its rank is at most examples times classes times checkpoints,
so that f(matrix) v = f(0) v + (what the few directions add). Three forms of those directions: exact by the kernel of the
curvature's rows, exact by the matrix's own entries, or layer by layer by EK-FAC.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from tda.curvature.factored_blocks import KEPT_BYTES, FactoredBlocks
from tda.curvature.kronecker_factors import (
    LayerFactors,
    factored_plan,
    kronecker_factors,
    layer_matrices,
    layer_vectors,
)
from tda.curvature.layer_bases import LayerScales
from tda.curvature.products import flatten, unflatten
from tda.data.splits import Split
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.layers import Layer
from tda.gradients.objectives import Objective
from tda.gradients.second_moment import second_moment
from tda.models.model_state import trained_parameters

Function = Callable[[Tensor], Tensor]
"""Maps eigenvalues (r,), 0 or positive, to numbers (r,)."""

_COLUMNS_AT_ONCE = 2**14


class MatrixFunctions(Protocol):
    """A matrix of which functions are taken; root: P^1/2 (p,), None for 1; left_out: names of parameters that it ignores."""

    root: Tensor | None
    left_out: list[str]

    def apply(self, function: Function, vectors: Tensor) -> Tensor:
        """f(P^1/2 G P^1/2) v for rows v of (k, p); 0 at parameters that are left out."""


@dataclass(frozen=True)
class ByKernel:
    """Exact, by rows (r, p) whose second moment is the matrix; values (r,), vectors (r, r): of their kernel, in float64."""

    rows: Tensor
    values: Tensor
    vectors: Tensor
    root: Tensor | None
    left_out: list[str]

    def apply(self, function: Function, vectors: Tensor) -> Tensor:
        """As MatrixFunctions says: f(0) v + R^T U (f(s) - f(0)) / s U^T R v, R the rows."""
        values = self.values.clamp(min=0)
        at_zero = function(torch.zeros_like(values))
        seen = values > values.max() * len(values) * torch.finfo(values.dtype).eps
        slopes = torch.where(seen, (function(values) - at_zero) / torch.where(seen, values, 1), 0)
        weights = (vectors @ self.rows.T).to(slopes.dtype) @ self.vectors * slopes @ self.vectors.T
        return at_zero[0].to(vectors.dtype) * vectors + weights.to(vectors.dtype) @ self.rows


@dataclass(frozen=True)
class ByEntries:
    """Exact, by the matrix's eigenvalues (p,) and eigenvectors (p, p)."""

    values: Tensor
    vectors: Tensor
    root: Tensor | None
    left_out: list[str]

    def apply(self, function: Function, vectors: Tensor) -> Tensor:
        """As MatrixFunctions says."""
        return vectors @ self.vectors * function(self.values.clamp(min=0)) @ self.vectors.T


@dataclass(frozen=True)
class ByLayers:
    """EK-FAC: each linear layer's part by itself, in the basis of its Kronecker factors; no others."""

    model: nn.Module
    layers: list[Layer]
    factors: list[LayerFactors]
    root: Tensor | None
    left_out: list[str]

    def apply(self, function: Function, vectors: Tensor) -> Tensor:
        """As MatrixFunctions says."""
        named = unflatten(vectors, self.model)
        found = {name: torch.zeros_like(part) for name, part in named.items()}
        for layer, factors in zip(self.layers, self.factors, strict=True):
            matrices, values = layer_matrices(layer, named), factors.eigenvalues
            at_zero = function(torch.zeros_like(values[:1]))
            added = factors.matrices(factors.coordinates(matrices) * (function(values) - at_zero))
            found |= layer_vectors(layer, at_zero * matrices + added)
        return flatten(found)


def by_kernel(models: Sequence[nn.Module], objective: Objective, train: Split, root: Tensor | None) -> ByKernel:
    """Exact where few examples, logits and checkpoints meet many parameters; holds their gradients, formed."""
    rows = []
    for model in models:
        plan = plan_gradients(model, train.inputs)
        blocks = plan.streamed(train.inputs, train.labels, objective.curvature_roots, 64)
        rows += [block.dense() if root is None else block.dense() * root for block in blocks]
    rows = torch.cat(rows).div_((len(train) * len(models)) ** 0.5)
    gram = sum(part @ part.T for part in map(Tensor.double, rows.split(_COLUMNS_AT_ONCE, dim=1)))
    return ByKernel(rows, *torch.linalg.eigh((gram + gram.T) / 2), root, [])


def by_entries(models: Sequence[nn.Module], objective: Objective, train: Split, root: Tensor | None) -> ByEntries:
    """Exact where few parameters meet many examples."""
    matrix = 0.0
    for model in models:
        plan = plan_gradients(model, train.inputs, None, len(train), len(train))
        matrix = matrix + second_moment(plan.rows(train.inputs, train.labels, objective.curvature_roots))
    matrix = matrix / (len(train) * len(models))
    if root is not None:
        matrix = root[:, None] * matrix * root
    return ByEntries(*torch.linalg.eigh(matrix), root, [])


def by_layers(
    models: Sequence[nn.Module], objective: Objective, train: Split, preconditioner: dict[str, Tensor] | None
) -> ByLayers:
    """EK-FAC's approximation; raises UserError for a model without linear layers.

    A diagonal preconditioner keeps a layer's gradients outer products only if it is one itself. 1 / P^2, for Adam the second
    moments, is taken as the outer product of its means over inputs and outputs, divided by its mean (Shazeer and Stern 2018).
    """
    plans = [factored_plan(plan_gradients(model, train.inputs)) for model in models]
    layers, scales = plans[0].layers, None
    covered = {name for layer in layers for name in layer.parameters.values()}
    parameters = trained_parameters(models[0])
    root = None
    if preconditioner is not None:
        scales = [_outer_root(layer, preconditioner) for layer in layers]
        named = {name: torch.ones_like(parameter)[None] for name, parameter in parameters.items()}
        for layer, found in zip(layers, scales, strict=True):
            named |= layer_vectors(layer, (found.inputs[..., None] * found.outputs[:, None])[None])
        root = flatten(named)[0].detach()
    kept_bytes = KEPT_BYTES // len(plans)
    blocks = [FactoredBlocks(plan, train, objective.curvature_roots, kept_bytes) for plan in plans]
    factors = kronecker_factors(blocks, scales)
    return ByLayers(models[0], layers, factors, root, [name for name in parameters if name not in covered])


def _outer_root(layer: Layer, preconditioner: dict[str, Tensor]) -> LayerScales:
    """P^1/2 of a layer as an outer product."""
    names = layer.parameters.values()
    moments = layer_matrices(layer, {name: preconditioner[name][None].double().pow(-2) for name in names})[0]
    inputs, outputs = moments.mean(dim=2), moments.mean(dim=1) / moments.mean(dim=(1, 2))[:, None]
    dtype = preconditioner[layer.parameters["weight"]].dtype
    return LayerScales(inputs.pow(-0.25).to(dtype), outputs.pow(-0.25).to(dtype))
