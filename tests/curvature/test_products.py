"""Curvature products against explicit matrices."""

import pytest
import torch
from tiny_model import explicit_gauss_newton, explicit_hessian, flat_parameters, naive_gradients

from tda.curvature.products import (
    flatten,
    gauss_newton_products,
    hessian_product,
    hessian_products,
    products_in_parts,
    unflatten,
)
from tda.gradients.activation_memory import activation_bytes
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
