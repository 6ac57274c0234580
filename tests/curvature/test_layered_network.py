"""Tangents through rows of known layers against float64 automatic differentiation."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn import functional

from tda.curvature.batch_derivatives import Differentiator
from tda.curvature.layered_network import LayeredBatch, layers_of
from tda.curvature.weighted_batch import WeightedBatch
from tda.gradients.objectives import Classification

NETWORKS = {
    "pooled convolutions": nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.GELU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)),
        nn.Flatten(),
        nn.Linear(16, 3),
    ),
    "rims that no window sees": nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 3, (2, 3), stride=(1, 2)), nn.Tanh(), nn.MaxPool2d((2, 1))),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.GELU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        nn.Linear(4, 3),
    ),
    "strides, dilation, means": nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(3, 2, 2, dilation=2, padding=1),
        nn.Flatten(),
        nn.Linear(8, 3, bias=False),
    ),
    "perceptron": nn.Sequential(nn.Flatten(), nn.Linear(128, 5), nn.GELU(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)),
    "activations first": nn.Sequential(nn.Tanh(), nn.Flatten(), nn.Identity(), nn.Linear(128, 3)),
}


def batch_of(model: nn.Module) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Inputs, labels, factors, parameters and four tangents."""
    inputs, labels = torch.randn(5, 2, 8, 8).double(), torch.randint(3, (5,))
    values = {name: parameter.detach() for name, parameter in model.named_parameters()}
    tangents = {name: torch.randn(4, *value.shape).double() for name, value in values.items()}
    return inputs, labels, torch.rand(5).double() + 0.5, values, tangents


@pytest.mark.parametrize("patches", [0, 2**26])
@pytest.mark.parametrize("name", NETWORKS)
def test_everything_is_what_automatic_differentiation_gives(name: str, patches: int, monkeypatch: pytest.MonkeyPatch):
    for limit in ("_FEW_PATCHES", "_LARGEST_PATCHES"):
        monkeypatch.setattr(f"tda.curvature.pooled_convolution.{limit}", patches)
    model = NETWORKS[name].double()
    inputs, labels, factors, values, tangents = batch_of(model)

    def losses(values: dict[str, Tensor]) -> Tensor:
        return functional.cross_entropy(functional_call(model, values, (inputs,)), labels, reduction="none")

    def total(values: dict[str, Tensor]) -> Tensor:
        return (losses(values) * factors).sum()

    with torch.no_grad():
        batch = LayeredBatch(layers_of(model), WeightedBatch(Classification(), inputs, labels, factors, values))
        products, of_losses = batch.products(tangents)
        own = batch.example_gradients()
    expected = vmap(lambda tangent: jvp(grad(total), (values,), (tangent,))[1])(tangents)
    assert expected.keys() == products.keys() == own.keys() == batch.gradient.keys()
    for parameter, product in expected.items():
        torch.testing.assert_close(products[parameter], product)
        torch.testing.assert_close(batch.gradient[parameter], grad(total)(values)[parameter])
    torch.testing.assert_close(of_losses, vmap(lambda tangent: jvp(losses, (values,), (tangent,))[1])(tangents))
    for position in range(len(inputs)):
        alone = grad(lambda values, position=position: losses(values)[position] * factors[position])(values)
        for parameter, gradient in alone.items():
            torch.testing.assert_close(own[parameter][position], gradient)


@pytest.mark.parametrize("name", NETWORKS)
def test_both_ways_of_differentiating_agree(name: str):
    model = NETWORKS[name].double()
    inputs, labels, factors, values, tangents = batch_of(model)
    batch = WeightedBatch(Classification(), inputs, labels, factors, values)
    layered, mapped = Differentiator(model), Differentiator(nn.ModuleList([model]).get_submodule("0"))
    mapped._makers = None
    assert layered.layered and not mapped.layered
    for found, expected in zip(layered(batch).products(tangents)[:2], mapped(batch).products(tangents)[:2], strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(layered(batch).example_gradients(), mapped(batch).example_gradients())


def shared() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.GELU(), layer)


def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    return model


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 2))
    model[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    return model


class Doubled(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


@pytest.mark.parametrize(
    "model",
    [
        shared(),
        frozen(),
        hooked(),
        nn.Sequential(Doubled(4, 2)),
        nn.Sequential(nn.Linear(4, 2), nn.Dropout()),
        nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)),
        nn.Sequential(nn.Conv2d(4, 4, 1, padding="same")),
        nn.Sequential(nn.Linear(4, 2), nn.GELU(approximate="tanh")),
        nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)),
        nn.Linear(4, 2),
    ],
)
def test_other_networks_have_no_rules(model: nn.Module):
    assert layers_of(model) is None
