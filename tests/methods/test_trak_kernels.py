"""TRAK with weighted examples and both kernels: explicit Jacobians, and where it is TRAK or the Gauss-Newton matrix."""

import copy

import pytest
import torch
from conftest import Ensemble
from tiny_model import (
    OfOne,
    curvature_of_one,
    loss_of_one,
    margin_of_one,
    naive_gradients,
    naive_jacobians,
    score,
    surprise_of_one,
    values,
)
from torch import nn
from torch.func import grad

from tda.data.splits import Split
from tda.methods.registry import load_method
from tda.methods.trak_kernels import weighted_regression, weights
from tda.system.errors import UserError

EVERY_FAMILY = True


def by_the_logits(model: nn.Module, split: Split, function: OfOne) -> torch.Tensor:
    """Derivatives (n, R) of a function of one example by all its logits."""

    return values(model, split, lambda logits, label: grad(function)(logits, label).flatten())


def plain_regression(left: torch.Tensor, right: torch.Tensor, factor: float, curvature: torch.Tensor, power: float):
    """ridge (K W + ridge)^-1 k for mean kernels of Jacobians (n, R, p), (m, R, p)."""
    gram, cross = (torch.einsum("icp,jcp->ij", left, other) / left.shape[1] for other in (left, right))
    ridge = factor * gram.diagonal().mean()
    weighted = gram * (curvature / curvature.mean()) ** power
    return ridge * torch.linalg.solve(weighted + ridge * torch.eye(len(gram), dtype=gram.dtype), cross)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_equals_the_formula_on_explicit_jacobians(tiny, power: float):
    train, test, members = tiny
    (found,) = load_method("trak_kernels").score(members[:1], train, test, {"ridge_factor": 2.0, "curvature_power": power})
    model = members[0].model
    surprise = values(model, train, surprise_of_one)
    sides = [naive_gradients(model, split, margin_of_one)[:, None] for split in (train, test)]
    expected = surprise[:, None] * plain_regression(*sides, 2.0, surprise * (1 - surprise), power)
    outer = -by_the_logits(model, train, loss_of_one) @ by_the_logits(model, test, margin_of_one).T
    sides = [naive_jacobians(model, split) for split in (train, test)]
    traces = values(model, train, lambda logits, label: curvature_of_one(logits, label).trace())
    expected = expected + outer * plain_regression(*sides, 2.0, traces, power)
    torch.testing.assert_close(found.scores.double(), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
    assert max(found.report[kind]["largest_relative_residual"] for kind in ("margins", "logits")) < 1e-5


def test_all_logits_are_exact_for_a_linear_model(ensemble: Ensemble):
    """Its logits share one kernel and do not interact: ridge regression in parameter space gives the same."""
    (member,) = ensemble.members(15)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 20, dtype=torch.float64, generator=generator)
    train = Split(images, torch.arange(6) % 3, torch.arange(6))
    test = Split(images[:4] + 1, train.labels[:4], torch.arange(4))
    linear, model = copy.copy(member), nn.Linear(20, 3).double()
    linear.__dict__["model"] = model
    (found,) = load_method("trak_kernels").score([linear], train, test, {"ridge_factor": 0.5, "curvature_power": 0.0})
    own, other = (naive_jacobians(model, split) for split in (train, test))
    rows, ridge = own.flatten(0, 1), found.report["logits"]["ridge"]
    inverse = torch.linalg.inv(rows.T @ rows + ridge * torch.eye(rows.shape[1], dtype=torch.float64))
    pushes = torch.einsum("icp,ic->ip", own, -by_the_logits(model, train, loss_of_one))
    pulls = torch.einsum("icp,ic->ip", other, by_the_logits(model, test, margin_of_one))
    (by_margin,) = load_method("trak").score([linear], train, test, {"ridge": found.report["margins"]["ridge"]})
    expected = ridge * pushes @ inverse @ pulls.T + found.report["margins"]["ridge"] * by_margin.scores
    torch.testing.assert_close(found.scores, expected, rtol=1e-7, atol=1e-10)


def test_full_weights_are_the_weighted_gauss_newton_matrix():
    features, weight = torch.randn(7, 4, dtype=torch.float64), torch.rand(7, dtype=torch.float64)
    targets = torch.randn(3, 4, dtype=torch.float64)
    found, residual = weighted_regression(features @ features.T, features @ targets.T, 0.3, weight)
    matrix = features.T @ (weight[:, None] * features) + 0.3 * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(found, features @ torch.linalg.solve(matrix, targets.T))
    assert residual < 1e-12


def test_weights_are_powers_of_the_curvature():
    found = weights(torch.tensor([1.0, 3.0, 0.0, 4.0]), 0.5)
    torch.testing.assert_close(found, torch.tensor([0.5**0.5, 1.5**0.5, 1e-3, 2**0.5]))


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_ridge_must_be_positive(ensemble: Ensemble, factor: float):
    with pytest.raises(UserError, match="ridge factor must be positive"):
        score("trak_kernels", ensemble.members(15), ensemble.train, ensemble.test, ridge_factor=factor)
