"""Layers of transformers whose weights lie the other way round, against the same network of torch's own linear layers."""

import torch
from torch import Tensor, nn

from tda.curvature.factored_blocks import FactoredBlocks, RotatedBlocks
from tda.curvature.kronecker_coordinates import kronecker_coordinates
from tda.curvature.kronecker_factors import factored_plan, kronecker_factors, layer_matrices, layer_vectors
from tda.curvature.kronecker_scores import inverse_scores
from tda.data.splits import Split
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.objectives import Classification


class Readout(nn.Module):
    """Logits from the mean over positions of two layers."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(inputs))).mean(1)


def both() -> tuple[nn.Module, nn.Module]:
    """The network of turned layers, and of linear ones."""
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    turned = Readout(Conv1D(5, 4), Conv1D(3, 5)).double()
    for parameter in turned.parameters():
        parameter.data.normal_(std=0.5)
    linear = Readout(nn.Linear(4, 5), nn.Linear(5, 3)).double()
    linear.load_state_dict({name: part.t().clone() for name, part in turned.state_dict().items()})
    return turned, linear


def split(count: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 3, 4, generator=generator, dtype=torch.float64)
    return Split(inputs, torch.randint(3, (count,), generator=generator), torch.arange(count))


def test_ekfac_is_that_of_linear_layers():
    train, test, objective, found = split(8, 0), split(5, 1), Classification(), []
    for model in both():
        plan = factored_plan(plan_gradients(model, train.inputs))
        factors = kronecker_factors([FactoredBlocks(plan, train, objective.curvature_roots)])
        dampings = [0.1 * layer.mean for layer in factors]
        blocks = [FactoredBlocks(plan, split, objective.loss) for split in (train, test)]
        rotated = [RotatedBlocks(part, factors) for part in blocks]
        found.append(inverse_scores(factors, dampings, *rotated))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


def test_coordinates_hold_the_same_inner_products():
    train, objective, found = split(8, 0), Classification(), []
    for model in both():
        coordinates, diagonal = kronecker_coordinates(model, objective, train)
        rows = torch.cat([block.dense() for block in coordinates.rows(train, objective.loss)])
        found.append((rows @ rows.T, diagonal.sort().values))
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-8, atol=1e-12)


def test_matrices_of_a_layer_go_back_to_where_they_were():
    matrices = []
    for model in both():
        plan = plan_gradients(model, split(4, 0).inputs)
        generator = torch.Generator().manual_seed(2)
        for layer in plan.layers:
            shapes = {name: layer.module.get_parameter(local).shape for local, name in layer.parameters.items()}
            drawn = torch.randn(2, sum(shape.numel() for shape in shapes.values()), generator=generator, dtype=torch.float64)
            size = shapes[layer.parameters["weight"]].numel()
            weight = drawn[:, :size].unflatten(1, (min(shapes[layer.parameters["weight"]]), -1))
            weight = weight if weight.shape[1:] == shapes[layer.parameters["weight"]] else weight.mT
            vectors = {layer.parameters["weight"]: weight, layer.parameters["bias"]: drawn[:, size:]}
            found = layer_matrices(layer, vectors)
            matrices.append(found)
            for name, part in layer_vectors(layer, found).items():
                torch.testing.assert_close(part, vectors[name])
    half = len(matrices) // 2
    for left, right in zip(matrices[:half], matrices[half:], strict=True):
        torch.testing.assert_close(left, right)
