"""Eigenvalue-corrected Kronecker factors of a model's curvature, and gradients in the basis in which they are diagonal.

For a layer with inputs a (with 1 for the bias) and output gradients d, the curvature of its weights is taken as block U L U^T:
U is the Kronecker product of the eigenvectors of E[a a^T] and of E[d d^T], and L is diagonal, the mean square of the layer's
gradients along each of U's directions (George et al. 2018). Layers do not mix; a layer's groups are blocks of their own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from tda.curvature.factored_blocks import FactoredBlocks, RotatedBlocks
from tda.curvature.layer_bases import LayerBasis, LayerScales, sides_of
from tda.gradients.factored_rows import FactoredRows, example_slices, formed_weight
from tda.gradients.formed_rows import FormedRows, outputs_last
from tda.gradients.gradient_plan import GradientPlan
from tda.gradients.layer_rows import groups_of, is_linear, is_turned
from tda.gradients.layers import Layer
from tda.system.errors import UserError
from tda.system.workers import in_order

_FORMED_AT_ONCE = 2**26
"""Numbers of formed gradients that are held at once."""

_STRIPS, _STRIP_WIDTH = 8, 128
"""Into how many strips a covariance is cut at most, and how wide they are at least: thinner products gain nothing."""


@dataclass(frozen=True)
class LayerFactors(LayerBasis):
    """One layer's eigenbasis and curvature in it.

    eigenvalues: (G * k * o,), the mean squares of gradients; mean: the mean of all G * K * O eigenvalues. Directions that no
    training input, or no training output gradient, reaches are left out (k < K, o < O): eigenvalues and training gradients are
    0 there, so that scores do not see them.
    """

    eigenvalues: Tensor
    mean: float

    def coordinates(self, matrices: Tensor) -> Tensor:
        """What matrices (m, G, K, O) are in the eigenbasis: (m, G * k * o); the scales are the caller's."""
        return (self.inputs.mT @ matrices @ self.outputs).flatten(1)

    def matrices(self, coordinates: Tensor) -> Tensor:
        """The transpose of `coordinates`: (m, G * k * o) -> (m, G, K, O)."""
        groups, _, reached = self.inputs.shape
        return self.inputs @ coordinates.unflatten(1, (groups, reached, -1)) @ self.outputs.mT


def factored_plan(plan: GradientPlan) -> GradientPlan:
    """A plan of the same model that holds linear layers' and convolutions' gradients as factors, and no others.

    Raises UserError if there are no such layers.
    """
    layers = [layer for layer in plan.layers if is_linear(layer)]
    if not layers:
        raise UserError("EK-FAC needs a model with linear layers or convolutions whose weights are trained, and this has none")
    return replace(plan, layers=[replace(layer, factored=True) for layer in layers], whole_model=[], resting=[])


def kronecker_factors(
    fitted: Sequence[FactoredBlocks], scales: Sequence[LayerScales] | None = None, spans_losses: bool = True
) -> list[LayerFactors]:
    """Fit the factors of every layer to gradients, those of one model at one or several checkpoints, in two passes over them.

    Where they are of the objective's curvature roots the curvature is the Fisher matrix with its expectation over labels taken
    exactly; where they are of the loss it is the empirical Fisher matrix. Both are means over examples and checkpoints.
    scales: a layer's gradients are multiplied by its own first; spans_losses: whether the training losses' gradients are sums
    of these, so that directions in which these are 0 may be left out.
    """
    return factors_and_rotated(fitted, scales, spans_losses)[0]


def factors_and_rotated(
    fitted: Sequence[FactoredBlocks], scales: Sequence[LayerScales] | None = None, spans_losses: bool = True
) -> tuple[list[LayerFactors], list[RotatedBlocks]]:
    """The same, and the gradients that were fitted to in the eigenbases, as far as they are kept; empties what was given."""
    count = sum(len(blocks.split) for blocks in fitted)
    scales = scales or [None] * len(fitted[0].plan.layers)
    padded = getattr(fitted[0].plan.model, "ignores_padding", False)
    bases = _bases(chain.from_iterable(fitted), count, scales, spans_losses, padded)
    rotated = [RotatedBlocks(blocks, bases) for blocks in fitted]
    squares = [0.0] * len(bases)
    for block in chain.from_iterable(rotated):
        squares = [total + _sum_of_squares(*sides) for total, sides in zip(squares, block, strict=True)]
    found = []
    for total, basis in zip(squares, bases, strict=True):
        entries = basis.inputs.shape[0] * basis.inputs.shape[1] * basis.outputs.shape[1]
        mean = float(total.sum() / count / entries)
        found.append(LayerFactors(basis.inputs, basis.outputs, basis.scales, total / count, mean))
    return found, rotated


def layer_matrices(layer: Layer, vectors: dict[str, Tensor]) -> Tensor:
    """A linear layer's part of parameter-space vectors (m, *shape) as matrices (m, G, K, O), the bias as the last input."""
    weight = vectors[layer.parameters["weight"]]
    matrices = weight[:, None] if is_turned(layer.module) else outputs_last(weight, groups_of(layer)).flatten(2, -2)
    if "bias" not in layer.parameters:
        return matrices
    bias = vectors[layer.parameters["bias"]].unflatten(1, (matrices.shape[1], 1, -1))
    return torch.cat([matrices, bias], dim=2)


def layer_vectors(layer: Layer, matrices: Tensor) -> dict[str, Tensor]:
    """The inverse of layer_matrices: parameter name -> (m, *shape)."""
    names = layer.parameters
    shapes = {name: layer.module.get_parameter(local).shape for local, name in names.items()}
    weight = shapes[names["weight"]]
    inputs = weight[0] if is_turned(layer.module) else weight[1:].numel()
    parts = {names["weight"]: matrices[:, :, :inputs].flatten(1)}
    if "bias" in names:
        parts[names["bias"]] = matrices[:, :, inputs].flatten(1)
    return FormedRows(parts, shapes, len(matrices), groups_of(layer)).gradients()


def _bases(
    blocks: Iterator[list[FactoredRows]],
    num_examples: int,
    scales: Sequence[LayerScales | None],
    spans_losses: bool,
    padded: bool,
) -> list[LayerBasis]:
    """Eigenvectors of the input and the output covariances of every layer.

    padded: whether a text's padding may be among the positions; then those count whose output gradients are not all 0, so that
    neither what padding holds nor how long it is matters.
    """
    covariances: list[tuple[_Covariance, _Covariance]] = []
    for block in blocks:
        sides = [sides_of(rows, scale) for rows, scale in zip(block, scales, strict=True)]
        if padded:
            sides = [(inputs * (deltas != 0).any(dim=4).any(dim=1)[..., None], deltas) for inputs, deltas in sides]
        covariances = covariances or [
            (_Covariance(inputs, num_examples), _Covariance(deltas, num_examples, may_keep=spans_losses))
            for inputs, deltas in sides
        ]
        for pair, of_layer in zip(covariances, sides, strict=True):
            for covariance, vectors in zip(pair, of_layer, strict=True):
                covariance.add(vectors)
    flat = [covariance for pair in covariances for covariance in pair]
    if flat[0].device.type == "cuda":
        found = [covariance.eigenvectors() for covariance in flat]
    else:
        # LAPACK's solver gains little from threads of its own, so that two beside each other are faster than one after another.
        with threadpool_limits(1, user_api="blas"):
            found = list(in_order(lambda number: flat[number].eigenvectors(), len(flat)))
    return [LayerBasis(*of_layer) for of_layer in zip(found[::2], found[1::2], scales, strict=True)]


class _Covariance:
    """Collects vectors (n, ..., G, T, K): as they are while they are fewer than their width, else as a covariance matrix.

    Of the matrix no more than strips that cover its lower half are formed, which is all that a symmetric solver reads.
    """

    def __init__(self, vectors: Tensor, num_examples: int, may_keep: bool = True) -> None:
        """vectors: of a first block; may_keep: whether directions without any vector may be left out."""
        self.dtype, self.device = vectors.dtype, vectors.device
        self.keeps_vectors = may_keep and num_examples * vectors[0, ..., 0].numel() < vectors.shape[-3] * vectors.shape[-1]
        self.kept: list[Tensor] = []
        self.total: Tensor | None = None

    def add(self, vectors: Tensor) -> None:
        vectors = vectors.movedim(-3, 0).flatten(1, -2)
        if self.keeps_vectors:
            self.kept.append(vectors)
            return
        width = vectors.shape[2]
        if self.total is None:
            self.total = torch.zeros(len(vectors), width, width, dtype=torch.float64, device=self.device)
        step = max(_STRIP_WIDTH, -(-width // _STRIPS))
        for start in range(0, width, step):
            stop = start + step
            self.total[:, start:stop, :stop] += vectors[..., start:stop].mT @ vectors[..., :stop]

    def eigenvectors(self) -> Tensor:
        """(G, K, k)."""
        matrices = torch.cat(self.kept, dim=1).double() if self.keeps_vectors else self.total
        if self.device.type == "cuda":
            svd, eigh = partial(torch.linalg.svd, full_matrices=False), torch.linalg.eigh
        else:
            # On an AMD processor the solvers of torch's wheels were measured to take half as long again.
            matrices, svd, eigh = matrices.numpy(), partial(np.linalg.svd, full_matrices=False), np.linalg.eigh
        found = svd(matrices)[2].swapaxes(1, 2) if self.keeps_vectors else eigh(matrices)[1]
        return torch.as_tensor(found).to(self.dtype).contiguous()


def _sum_of_squares(inputs: Tensor, deltas: Tensor) -> Tensor:
    """Sum over rows of the squared gradients of sides (n, G, T, k) and (n, R, G, T, o): (G * k * o,)."""
    if deltas.shape[3] == 1:
        # A gradient is then one outer product, and its square the product of squares.
        squares = deltas.square().sum(dim=1)
        return torch.einsum("ngk,ngo->gko", inputs[:, :, 0].square(), squares[:, :, 0]).flatten()
    formed = deltas[0, :, :, 0].numel() * inputs.shape[-1]
    parts = example_slices(len(inputs), formed, _FORMED_AT_ONCE)
    return sum(formed_weight(inputs[part], deltas[part]).square().sum(dim=0) for part in parts)
