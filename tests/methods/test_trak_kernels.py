"""TRAK with weighted examples and both kernels: explicit Jacobians, and where it is TRAK or the Gauss-Newton matrix."""

import copy

import pytest
import torch
from conftest import Ensemble
from tiny_model import score
from torch import nn

from tda.data.splits import Split
from tda.gradients.gradient_kernel import gradient_rows
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.quantities import Quantity, all_logits, cross_entropy_loss, margin
from tda.methods.registry import load_method
from tda.methods.trak_kernels import margin_weights, residuals, weighted_regression, weights
from tda.system.errors import UserError

EVERY_FAMILY = True


def jacobians(model: nn.Module, split: Split, quantity: Quantity) -> torch.Tensor:
    """Gradients of a quantity's numbers (n, R, p) float64."""
    plan, examples = plan_gradients(model, split.inputs), range(len(split))
    rows = [gradient_rows(split.inputs[i : i + 1], split.labels[i : i + 1], quantity, plan).dense() for i in examples]
    return torch.stack(rows).double()


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
    with torch.no_grad():
        logits, test_logits = model(train.inputs).double(), model(test.inputs).double()
    p = logits.softmax(dim=1)
    label = p.gather(1, train.labels[:, None]).squeeze(1)
    sides = [jacobians(model, split, margin) for split in (train, test)]
    expected = (1 - label)[:, None] * plain_regression(*sides, 2.0, label * (1 - label), power)
    outer = residuals(logits, train.labels) @ margin_weights(test_logits, test.labels).T
    sides = [jacobians(model, split, all_logits) for split in (train, test)]
    expected = expected + outer * plain_regression(*sides, 2.0, 1 - p.square().sum(dim=1), power)
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
    own, other = (jacobians(model, split, all_logits) for split in (train, test))
    rows, ridge = own.flatten(0, 1), found.report["logits"]["ridge"]
    inverse = torch.linalg.inv(rows.T @ rows + ridge * torch.eye(rows.shape[1], dtype=torch.float64))
    with torch.no_grad():
        pushes = torch.einsum("icp,ic->ip", own, residuals(model(train.inputs), train.labels))
        pulls = torch.einsum("icp,ic->ip", other, margin_weights(model(test.inputs), test.labels))
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


def test_residuals_and_margin_weights_are_derivatives():
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 3, 1, 1, 2])
    (by_loss,) = torch.autograd.grad(cross_entropy_loss(logits, labels).sum(), logits)
    (by_margin,) = torch.autograd.grad(margin(logits, labels).sum(), logits)
    torch.testing.assert_close(residuals(logits, labels), -by_loss)
    torch.testing.assert_close(margin_weights(logits, labels), by_margin)


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_ridge_must_be_positive(ensemble: Ensemble, factor: float):
    with pytest.raises(UserError, match="ridge factor must be positive"):
        score("trak_kernels", ensemble.members(15), ensemble.train, ensemble.test, ridge_factor=factor)
