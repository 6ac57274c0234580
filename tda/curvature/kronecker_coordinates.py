"""The Gauss-Newton matrix in the coordinates in which EK-FAC takes it as diagonal.

A linear layer's gradient is an outer product of an input and an output gradient, and so is the rotated gradient: the matrix is
exact here, nothing is approximated by the rotation, and its diagonal is what EK-FAC keeps of it (George et al. 2018).
Directions that no training input reaches are no coordinates: training gradients are 0 there, so that the matrix is 0 and scores
do not see them. Parameters of other layers (norms, embeddings) stay as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tda.curvature.factored_blocks import FactoredBlocks
from tda.curvature.kronecker_factors import LayerFactors, factored_plan, kronecker_factors
from tda.data.splits import Split
from tda.gradients.factored_rows import FactoredRows
from tda.gradients.gradient_kernel import examples_at_once
from tda.gradients.gradient_plan import GradientPlan, plan_gradients
from tda.gradients.gradient_rows import GradientRows
from tda.gradients.layer_rows import is_linear
from tda.gradients.objectives import Objective
from tda.gradients.quantities import Quantity


@dataclass(frozen=True)
class KroneckerCoordinates:
    """A model's gradients in the coordinates of its Kronecker factors.

    plan: of all parameters, linear layers as factors; factors: of each layer of the plan, None where it has none; shapes:
    name -> shape of the coordinates that stand for the parameter, biases among their weight's.
    """

    plan: GradientPlan
    factors: list[LayerFactors | None]
    shapes: dict[str, torch.Size]

    @property
    def size(self) -> int:
        """Number of coordinates p'."""
        return sum(shape.numel() for shape in self.shapes.values())

    def rows(self, split: Split, quantity: Quantity) -> Iterator[GradientRows]:
        """Gradients of the quantity in these coordinates, block after block of the examples."""
        example_bytes = self.plan.example_bytes(split.inputs, split.labels, quantity)
        size = examples_at_once(self.plan, split.inputs, example_bytes)
        for block in self.plan.streamed(split.inputs, split.labels, quantity, size):
            own, others = block.layers[: len(self.factors)], block.layers[len(self.factors) :]
            layers = [
                rows if factors is None else _rotated(factors, rows) for factors, rows in zip(self.factors, own, strict=True)
            ]
            yield replace(block, layers=[*layers, *others], shapes=self.shapes)

    def cut(self, vectors: Tensor) -> dict[str, Tensor]:
        """Vectors (k, p') as name -> (k, *shape)."""
        pieces = vectors.split([shape.numel() for shape in self.shapes.values()], dim=1)
        return {
            name: piece.reshape(len(piece), *shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }


def with_factors(plan: GradientPlan) -> GradientPlan:
    """The same plan, with the gradients of all linear layers and convolutions held as factors."""
    return replace(plan, layers=[replace(layer, factored=True) if is_linear(layer) else layer for layer in plan.layers])


def kronecker_coordinates(model: nn.Module, objective: Objective, train: Split) -> tuple[KroneckerCoordinates, Tensor]:
    """The coordinates that fit a model's training curvature, and the Gauss-Newton matrix's diagonal (p',) in them.

    Raises UserError for a model without linear layers.
    """
    complete = with_factors(plan_gradients(model, train.inputs))
    layers = complete.layers
    fitted = iter(kronecker_factors([FactoredBlocks(factored_plan(complete), train, objective.curvature_roots)]))
    factors = [next(fitted) if is_linear(layer) else None for layer in layers]
    names = {layer.parameters["weight"]: found for layer, found in zip(layers, factors, strict=True) if found is not None}
    biases = {layer.parameters.get("bias") for layer, found in zip(layers, factors, strict=True) if found is not None}
    shapes = {
        name: _rotated_shape(names[name]) if name in names else shape
        for name, shape in complete.shapes.items()
        if name not in biases
    }
    coordinates = KroneckerCoordinates(complete, factors, shapes)
    diagonal = _diagonal_elsewhere(coordinates, train, objective)
    diagonal |= {name: _in_order(found).flatten() for name, found in names.items()}
    return coordinates, torch.cat([diagonal[name] for name in shapes])


def _rotated(factors: LayerFactors, rows: FactoredRows) -> FactoredRows:
    inputs, deltas = factors.rotated_sides(rows)
    return FactoredRows(inputs.contiguous(), deltas.contiguous(), rows.weight, None, _rotated_shape(factors))


def _rotated_shape(factors: LayerFactors) -> torch.Size:
    groups, _, reached = factors.inputs.shape
    return torch.Size((groups * factors.outputs.shape[2], reached))


def _in_order(factors: LayerFactors) -> Tensor:
    """Eigenvalues (G * O, k), as a weight of that shape has its entries."""
    groups, _, reached = factors.inputs.shape
    return factors.eigenvalues.unflatten(0, (groups, reached, -1)).transpose(1, 2).flatten(0, 1)


def _diagonal_elsewhere(coordinates: KroneckerCoordinates, train: Split, objective: Objective) -> dict[str, Tensor]:
    """Mean squares of the gradients of parameters outside linear layers: name -> (numel,)."""
    plan = coordinates.plan
    linear = {name for layer in plan.layers if is_linear(layer) for name in layer.parameters.values()}
    shapes = {name: shape for name, shape in plan.shapes.items() if name not in linear}
    if not shapes:
        return {}
    rest = replace(plan, layers=[layer for layer in plan.layers if not is_linear(layer)], shapes=shapes)
    roots, squares = objective.curvature_roots, dict.fromkeys(shapes, 0.0)
    size = examples_at_once(rest, train.inputs, rest.example_bytes(train.inputs, train.labels, roots))
    for rows in rest.streamed(train.inputs, train.labels, roots, size):
        squares = {name: squares[name] + part.square().sum(dim=0) for name, part in rows.gradients().items()}
    return {name: total.flatten() / len(train) for name, total in squares.items()}
