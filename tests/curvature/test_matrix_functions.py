"""Functions of the curvature against those of the explicit matrix."""

import pytest
import torch
from conftest import for_some
from tiny_model import explicit_gauss_newton
from torch import Tensor

from tda.curvature.kronecker_factors import factored_plan, layer_matrices, layer_vectors
from tda.curvature.matrix_functions import by_entries, by_kernel, by_layers
from tda.curvature.products import flatten, unflatten
from tda.gradients.gradient_plan import plan_gradients

EVERY_FAMILY = True


def decay(values: Tensor) -> Tensor:
    return torch.exp(-3 * values - 0.2)


@pytest.mark.parametrize("fit", [by_kernel, by_entries])
@pytest.mark.parametrize("preconditioned", [for_some(False), True])
def test_exact_forms_are_the_explicit_matrix_s_function(tiny, fit, preconditioned: bool):
    train, _, members = tiny
    models = [member.model for member in members[:2]]
    matrix = sum(explicit_gauss_newton(model, train) for model in models) / 2
    root = torch.linspace(0.5, 2, len(matrix), dtype=torch.float64) if preconditioned else None
    if preconditioned:
        matrix = root[:, None] * matrix * root
    functions = fit(models, members[0].objective, train, root)
    found = functions.apply(decay, torch.eye(len(matrix), dtype=torch.float64))
    identity = torch.eye(len(matrix), dtype=torch.float64)
    torch.testing.assert_close(found, torch.linalg.matrix_exp(-3 * matrix - 0.2 * identity), rtol=1e-8, atol=1e-9)
    assert functions.root is root and functions.left_out == []


def test_by_layers_is_a_function_of_one_symmetric_matrix(tiny):
    """f = 1 gives the covered parameters back, f = s the factored curvature, whose square is the function s^2."""
    train, _, members = tiny
    model = members[0].model
    functions = by_layers([model], members[0].objective, train, None)
    parameters = {name: part for name, part in model.named_parameters() if part.requires_grad}
    covered = flatten({name: torch.full_like(part, name not in functions.left_out)[None] for name, part in parameters.items()})
    identity = torch.eye(covered.shape[1], dtype=torch.float64)
    same = functions.apply(torch.ones_like, identity)
    torch.testing.assert_close(same.detach(), torch.diag(covered[0].detach()), rtol=1e-9, atol=1e-9)
    matrix = functions.apply(lambda values: values, identity)
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(functions.apply(torch.square, identity), matrix @ matrix, rtol=1e-7, atol=1e-9)
    shared = covered[0].bool()
    trace = explicit_gauss_newton(model, train).diagonal()[shared].sum()
    torch.testing.assert_close(matrix.trace(), trace, rtol=1e-8, atol=0)


def test_matrices_of_layers_come_back_as_vectors(tiny):
    train, _, members = tiny
    model = members[0].model
    layers = factored_plan(plan_gradients(model, train.inputs)).layers
    size = sum(part.numel() for part in model.parameters() if part.requires_grad)
    named = unflatten(torch.arange(2.0 * size).view(2, size), model)
    for layer in layers:
        for name, part in layer_vectors(layer, layer_matrices(layer, named)).items():
            assert torch.equal(part, named[name])
