"""Maps over seeds and checkpoints, and what the seeds agree on."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_model import explicit_gauss_newton, naive_gradients

from tda.curvature.products import unflatten
from tda.features.influence_maps import Pairs, Smoothing, influence_maps
from tda.features.seed_maps import MapSettings, maps_of_model, maps_of_seeds, pixel_statistics
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.quantities import binary_cross_entropy_loss
from tda.system.errors import UserError

PAIRS = Pairs(torch.tensor([0, 4, 8]), torch.tensor([11, 2, 11]))


def test_a_seeds_map_is_the_mean_over_its_checkpoints(tiny):
    train, test, members = tiny
    settings = MapSettings("grad_dot")
    each = [maps_of_model(member.model, train, test, PAIRS, settings) for member in members]
    (found,) = maps_of_seeds([[lambda member=member: member.model for member in members]], train, test, PAIRS, settings)
    torch.testing.assert_close(found, sum(each) / len(each))


def test_gauss_newton_influence_multiplies_with_the_solved_test_gradient(tiny):
    train, test, members = tiny
    model = members[-1].model
    matrix = explicit_gauss_newton(model, train) + 0.1 * torch.eye(271, dtype=torch.float64)
    solved = torch.linalg.solve(matrix, naive_gradients(model, test).T).T
    settings = MapSettings("if", damping=0.1, tolerance=1e-10, max_iterations=400)
    found = maps_of_model(model, train, test, PAIRS, settings)
    torch.testing.assert_close(
        found, influence_maps(model, train, unflatten(solved, model), PAIRS, cosine=False), rtol=1e-5, atol=1e-9
    )


def test_maps_of_grad_cos_are_right_where_a_network_is_sure(tiny):
    train, test, members = tiny
    model = deepcopy(members[-1].model)
    with torch.no_grad():
        model[-1].weight.mul_(100)
    single = [split.cast(torch.float32) for split in (train, test)]
    double = [split.cast(torch.float64) for split in single]
    pairs = Pairs(torch.arange(9), torch.arange(9))
    expected = maps_of_model(deepcopy(model).float().double(), *double, pairs, MapSettings())
    found = maps_of_model(deepcopy(model).float(), *single, pairs, MapSettings())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-9)
    imprecise = maps_of_model(deepcopy(model).float(), *single, pairs, MapSettings(precise=False))
    assert (imprecise - expected).norm() > 10 * (found - expected).norm()


def test_statistics_over_seeds():
    maps = torch.randn(4, 2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    found = pixel_statistics(maps)
    np.testing.assert_allclose(found.mean, maps.double().mean(0))
    np.testing.assert_allclose(found.std, maps.double().std(0))
    np.testing.assert_allclose(found.signal_to_noise, (maps.double().mean(0) / maps.double().std(0)).abs())
    alone = pixel_statistics(maps[:1])
    np.testing.assert_allclose(alone.mean, maps[0].double())
    assert alone.std is None and alone.signal_to_noise is None


def test_unusable_settings_are_refused():
    with pytest.raises(UserError, match="grad_cos, grad_dot, if"):
        MapSettings("loo")
    with pytest.raises(UserError, match="negative"):
        MapSettings(smoothing=Smoothing(-1))
    with pytest.raises(UserError, match="damping"):
        MapSettings("if", damping=0)


def test_a_map_that_is_not_a_number_is_refused(tiny):
    train, test, members = tiny
    train.inputs[4, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        list(maps_of_seeds([[lambda: members[0].model]], train, test, PAIRS, MapSettings()))


def test_the_curvature_of_one_class_among_several_is_that_classes_own(tiny):
    """Of a multi-label classifier, beside a class that is on nearly every image."""
    train, test, members = tiny
    model = deepcopy(members[-1].model)
    with torch.no_grad():
        model[-1].bias[2] += 8
    quantity = binary_cross_entropy_loss(1)
    train, test = (replace(split, labels=(split.labels == 1).long()) for split in (train, test))
    gradients = []
    for image in train.inputs.split(1):
        logit = model(image)[0, 1]
        gradient = torch.cat([part.flatten() for part in torch.autograd.grad(logit, list(model.parameters()))])
        weight = torch.sigmoid(logit.detach())
        gradients.append((weight * (1 - weight)).sqrt() * gradient)
    rows = torch.stack(gradients)
    matrix = rows.T @ rows / len(rows) + 0.1 * torch.eye(rows.shape[1], dtype=rows.dtype)
    right = plan_gradients(model, test.inputs).rows(test.inputs, test.labels, quantity).dense()
    solved = unflatten(torch.linalg.solve(matrix, right.T).T, model)
    settings = MapSettings("if", damping=0.1, tolerance=1e-10, max_iterations=400)
    found = maps_of_model(model, train, test, PAIRS, settings, quantity)
    expected = influence_maps(model, train, solved, PAIRS, cosine=False, quantity=quantity)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)


def test_maps_that_were_not_solved_for_are_refused(tiny):
    train, test, members = tiny
    settings = MapSettings("if", damping=1e-6, tolerance=1e-12, max_iterations=3)
    with pytest.raises(UserError, match="were not solved for: after 3 products .* raise --damping, which is 1e-06"):
        maps_of_model(members[-1].model, train, test, PAIRS, settings)
