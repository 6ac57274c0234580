"""Curvature products against explicit matrices."""

import pytest
import torch
from tiny_model import explicit_gauss_newton, explicit_hessian, flat_parameters, naive_gradients
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tda.curvature.products import (
    flatten,
    gauss_newton_products,
    hessian_product,
    hessian_products,
    products_in_parts,
    unflatten,
)
from tda.data.splits import Split
from tda.gradients.activation_memory import activation_bytes
from tda.gradients.objectives import Classification
from tda.models.model_state import trained_parameters

EVERY_FAMILY = True


@pytest.mark.parametrize(
    ("products", "explicit"),
    [(hessian_products, explicit_hessian), (gauss_newton_products, explicit_gauss_newton)],
    ids=["hessian", "gauss_newton"],
)
def test_products_are_those_of_the_explicit_matrix(tiny, products, explicit):
    train, _, members = tiny
    model = members[0].model
    size = len(flat_parameters(model))
    vectors = torch.randn(70, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = vectors @ explicit(model, train)
    apply = products(model, members[0].objective, train)
    torch.testing.assert_close(apply(vectors), expected, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(apply(vectors[:1]), expected[:1], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("products", [hessian_products, gauss_newton_products])
def test_sums_over_parts_are_the_products(tiny, products):
    train, _, members = tiny
    model, objective = members[0].model, members[0].objective
    vectors = torch.randn(5, len(flat_parameters(model)), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = products(model, objective, train)(vectors)
    for examples in (1, 4):
        budget = 4 * examples * activation_bytes(model, train.inputs)
        found = products_in_parts(products, model, objective, train, budget)(vectors)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_product_by_reverse_mode_is_that_of_the_explicit_matrix(tiny):
    train, _, members = tiny
    model = members[0].model
    explicit = explicit_hessian(model, train)
    vectors = torch.randn(3, len(explicit), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    two_examples = 8 * activation_bytes(model, train.inputs)
    for budget in (None, two_examples, 1):
        apply = hessian_product(model, members[0].objective, train, budget)
        for vector in vectors:
            torch.testing.assert_close(apply(vector[None])[0], explicit @ vector, rtol=1e-8, atol=1e-10)
    assert all(parameter.grad is None for parameter in model.parameters())


class Cubed(torch.autograd.Function):
    """A derivative written by hand: in reverse mode alone, as often as one likes."""

    @staticmethod
    def forward(context, inputs: Tensor) -> Tensor:
        context.save_for_backward(inputs)
        return inputs**3

    @staticmethod
    def backward(context, gradients: Tensor) -> Tensor:
        (inputs,) = context.saved_tensors
        return 3 * inputs**2 * gradients


class OfHand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(Cubed.apply(self.layer(inputs.mean(dim=1))))


class Attentive(nn.Module):
    """Attention that torch fuses, whose kernel has neither second derivatives nor forward-mode ones."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.attention(inputs, inputs, inputs, need_weights=False)[0].mean(dim=1))


@pytest.mark.parametrize("kind", [OfHand, Attentive])
def test_layers_without_forward_mode_have_products_too(kind: type[nn.Module]) -> None:
    model = kind().double()
    inputs = torch.randn(5, 3, 4, dtype=torch.float64)
    train = Split(inputs, torch.arange(5) % 3, torch.arange(5))
    vectors = torch.randn(2, len(flat_parameters(model)), dtype=torch.float64)
    parameters = list(model.parameters())
    with sdpa_kernel(SDPBackend.MATH):
        loss = nn.functional.cross_entropy(model(inputs), train.labels)
        gradient = torch.cat([each.flatten() for each in torch.autograd.grad(loss, parameters, create_graph=True)])
        along = [torch.autograd.grad(gradient @ vector, parameters, retain_graph=True) for vector in vectors]
    expected = torch.stack([torch.cat([each.flatten() for each in found]) for found in along])
    torch.testing.assert_close(hessian_products(model, Classification(), train)(vectors), expected)
    torch.testing.assert_close(hessian_product(model, Classification(), train)(vectors[:1]), expected[:1])


def test_matrices_are_not_the_same(tiny):
    train, _, members = tiny
    difference = explicit_hessian(members[0].model, train) - explicit_gauss_newton(members[0].model, train)
    assert difference.abs().max() > 1e-2


def test_vectors_follow_the_order_of_the_gradients(tiny):
    train, _, members = tiny
    model = members[0].model
    gradients = naive_gradients(model, train)
    cut = unflatten(gradients, model)
    assert {name: tensor.shape[1:] for name, tensor in cut.items()} == {
        name: parameter.shape for name, parameter in trained_parameters(model).items()
    }
    assert torch.equal(flatten(cut), gradients)


def test_model_is_left_alone(tiny):
    train, _, members = tiny
    model = members[0].model
    vector = torch.ones(1, len(flat_parameters(model)), dtype=torch.float64)
    gauss_newton_products(model, members[0].objective, train)(vector)
    hessian_products(model, members[0].objective, train)(vector)
    assert all(parameter.grad is None for parameter in model.parameters()) and len(flat_parameters(model)) == vector.numel()
