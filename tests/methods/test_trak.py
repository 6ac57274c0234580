"""TRAK, exact and projected, against the regression with explicit matrices in float64."""

import pytest
import torch
from conftest import Ensemble
from tiny_model import margin_of_one, naive_gradients, score, surprise_of_one, values
from torch import Tensor

from tda.gradients import gradient_kernel
from tda.gradients.projections import KINDS, Projection
from tda.methods.registry import load_method
from tda.models.model_state import trained_parameters
from tda.system.errors import UserError
from tda.system.random_streams import stream_seed

EVERY_FAMILY = True


def explicit(left: Tensor, right: Tensor, surprise: Tensor, ridge: float | None) -> Tensor:
    """Phi_test (Phi^T Phi + ridge)^-1 Phi^T Q, transposed, with matrices of the features' own size; Q is 1 - p."""
    ridge = left.square().sum(dim=1).mean() if ridge is None else ridge
    inverse = torch.linalg.inv(left.T @ left + ridge * torch.eye(left.shape[1], dtype=left.dtype))
    return (right @ inverse @ left.T * surprise).T


@pytest.mark.parametrize("ridge", [None, 0.3])
def test_exact_form_matches_the_regression_over_all_parameters(tiny, ridge: float | None):
    train, test, members = tiny
    for member, found in zip(members, load_method("trak").score(members, train, test, {"ridge": ridge}), strict=True):
        left, right = (naive_gradients(member.model, split, margin_of_one) for split in (train, test))
        surprise = values(member.model, train, surprise_of_one)
        torch.testing.assert_close(found.scores, explicit(left, right, surprise, ridge), rtol=1e-6, atol=1e-10)
        torch.testing.assert_close(found.report["train_factor"], surprise.tolist(), rtol=1e-9, atol=0)
        assert found.report["largest_relative_residual"] < 1e-10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimension", [5, 40])
def test_projected_form_matches_the_regression_over_projected_features(tiny, kind: str, dimension: int):
    """9 training examples: the system is solved on the side of the features at 5, of the examples at 40."""
    train, test, members = tiny
    member = members[1]
    settings = {"dimension": dimension, "projection": kind, "projection_seed": 3}
    (found,) = score("trak_projected", [member], train, test, **settings)
    projection = Projection(dimension, stream_seed(member.seed, f"projection 3 after epoch {member.epoch}"), kind)
    shapes = {name: parameter.shape for name, parameter in trained_parameters(member.model).items()}
    matrix = torch.cat(list(projection.matrix(shapes).values()), dim=1)
    left, right = (naive_gradients(member.model, split, margin_of_one) @ matrix.T for split in (train, test))
    expected = explicit(left, right, values(member.model, train, surprise_of_one), None)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_members_draw_projections_of_their_own_and_keep_them(ensemble: Ensemble):
    members = ensemble.members(11, 15)
    first = score("trak_projected", members, ensemble.train, ensemble.test, dimension=8)
    assert all(
        torch.equal(*pair)
        for pair in zip(first, score("trak_projected", members, ensemble.train, ensemble.test, dimension=8), strict=True)
    )
    (other,) = score("trak_projected", members[1:], ensemble.train, ensemble.test, dimension=8, projection_seed=1)
    assert not torch.allclose(first[1], other)


def test_wide_projection_agrees_with_the_exact_form(ensemble: Ensemble):
    members = ensemble.members(15)
    (exact,) = score("trak", members, ensemble.train, ensemble.test)
    (wide,) = score("trak_projected", members, ensemble.train, ensemble.test, dimension=8192)
    assert float((exact - wide).norm() / exact.norm()) < 0.1


def test_block_size_does_not_matter(ensemble: Ensemble, monkeypatch):
    members = ensemble.members(15)
    whole = [score(name, members, ensemble.train, ensemble.test)[0] for name in ("trak", "trak_projected")]
    monkeypatch.setattr(gradient_kernel, "BLOCK_SIZE", 4)
    for name, expected in zip(("trak", "trak_projected"), whole, strict=True):
        (blocks,) = score(name, members, ensemble.train, ensemble.test)
        torch.testing.assert_close(blocks, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_ridge_is_checked(ensemble: Ensemble):
    members = ensemble.members(15)
    for wrong in (-1.0, float("nan")):
        with pytest.raises(UserError, match="ridge is (-1.0|nan); it must be at least 0, or None"):
            score("trak", members, ensemble.train, ensemble.test, ridge=wrong)
    repeated = ensemble.train[[0, 0, 1, 2, 3, 4, 5]]
    # In 4 dimensions the system is that of the features, to which a repeated example does no harm.
    (found,) = score("trak_projected", members, repeated, ensemble.test, ridge=0.0, dimension=4)
    assert torch.isfinite(found).all()
    for method, settings in (("trak", {}), ("trak_projected", {"dimension": 8})):
        with pytest.raises(UserError, match="ridge of 0; raise it"):
            score(method, members, repeated, ensemble.test, ridge=0.0, **settings)
