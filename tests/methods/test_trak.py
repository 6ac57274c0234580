"""TRAK, exact and projected, against the regression with explicit matrices in float64."""

import pytest
import torch
from conftest import Ensemble
from tiny_model import score
from torch import Tensor, nn

from tda.data.splits import Split
from tda.gradients import gradient_kernel
from tda.gradients.projections import KINDS, Projection
from tda.methods.registry import load_method
from tda.models.model_state import trained_parameters
from tda.system.errors import UserError
from tda.system.random_streams import stream_seed

EVERY_FAMILY = True


def margins_and_gradients(model: nn.Module, split: Split) -> tuple[Tensor, Tensor]:
    """p (n,) of the label and gradients (n, p) of log(p / (1 - p)), one example at a time."""
    parameters = list(trained_parameters(model).values())
    probabilities, rows = [], []
    for image, label in zip(split.inputs, split.labels, strict=True):
        p = model(image[None])[0].softmax(0)[label]
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad((p / (1 - p)).log(), parameters)]))
        probabilities.append(p.detach())
    return torch.stack(probabilities), torch.stack(rows)


def explicit(left: Tensor, right: Tensor, p: Tensor, ridge: float | None) -> Tensor:
    """Phi_test (Phi^T Phi + ridge)^-1 Phi^T Q, transposed, with matrices of the features' own size."""
    ridge = left.square().sum(dim=1).mean() if ridge is None else ridge
    inverse = torch.linalg.inv(left.T @ left + ridge * torch.eye(left.shape[1], dtype=left.dtype))
    return (right @ inverse @ left.T * (1 - p)).T


@pytest.mark.parametrize("ridge", [None, 0.3])
def test_exact_form_matches_the_regression_over_all_parameters(tiny, ridge: float | None):
    train, test, members = tiny
    for member, found in zip(members, load_method("trak").score(members, train, test, {"ridge": ridge}), strict=True):
        p, left = margins_and_gradients(member.model, train)
        _, right = margins_and_gradients(member.model, test)
        torch.testing.assert_close(found.scores, explicit(left, right, p, ridge), rtol=1e-6, atol=1e-10)
        torch.testing.assert_close(found.report["train_factor"], (1 - p).tolist(), rtol=1e-9, atol=0)
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
    p, left = margins_and_gradients(member.model, train)
    _, right = margins_and_gradients(member.model, test)
    torch.testing.assert_close(found, explicit(left @ matrix.T, right @ matrix.T, p, None), rtol=1e-5, atol=1e-8)


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
    with pytest.raises(UserError, match="must not be negative"):
        score("trak", members, ensemble.train, ensemble.test, ridge=-1.0)
    twice = torch.tensor([0, 0, 1, 2, 3, 4, 5])
    train = ensemble.train
    repeated = Split(train.inputs[twice], train.labels[twice], train.indices[twice])
    with pytest.raises(UserError, match="ridge of 0; raise it"):
        score("trak_projected", members, repeated, ensemble.test, ridge=0.0, dimension=4)
        score("trak", members, repeated, ensemble.test, ridge=0.0)
