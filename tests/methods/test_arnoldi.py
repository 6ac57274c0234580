"""Arnoldi's influence functions against the explicit Hessian's dominant eigenvectors, in float64."""

import pytest
import torch
from conftest import Ensemble, for_some
from tiny_model import explicit_hessian, naive_gradients, score

from tda.methods.arnoldi import dominant_eigenpairs
from tda.methods.registry import load_method
from tda.system.errors import UserError
from tda.system.random_streams import stream

EVERY_FAMILY = True


@pytest.mark.parametrize(("number", "count"), [for_some(0, 1), (1, 4), for_some(2, 8)])
def test_scores_match_the_explicit_eigenvectors(tiny, number: int, count: int):
    train, test, members = tiny
    member, settings = members[number], {"iterations": 120, "num_eigenvalues": count, "hessian_examples": 0}
    (found,) = load_method("if_arnoldi").score([member], train, test, settings)
    values, vectors = torch.linalg.eigh(explicit_hessian(member.model, train))
    dominant = values.abs().argsort(descending=True)[:count]
    left, right = (naive_gradients(member.model, split) @ vectors[:, dominant] for split in (train, test))
    expected = left / values[dominant] @ right.T
    torch.testing.assert_close(found.scores.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    torch.testing.assert_close(found.report["eigenvalues"], values[dominant].tolist(), rtol=1e-6, atol=0)
    assert max(found.report["relative_residuals"]) < 1e-4


def test_residuals_are_those_of_the_pairs():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(40, 40, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.T
    start = torch.randn(1, 40, generator=generator, dtype=torch.float64)
    values, vectors, residuals = dominant_eigenpairs(lambda v: v @ matrix, start, 12, 5)
    expected = (vectors @ matrix - values[:, None] * vectors).norm(dim=1) / values.abs()
    assert float(expected.max()) > 1e-3
    torch.testing.assert_close(residuals, expected, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-10)


def test_operator_of_low_rank_ends_the_iteration():
    """A rank of 3 leaves a Krylov space of dimension 4."""
    diagonal = torch.tensor([5.0, -3.0, 1.0] + [0.0] * 17, dtype=torch.float64)
    start = torch.ones(1, 20, dtype=torch.float64)
    values, vectors, residuals = dominant_eigenpairs(lambda v: v * diagonal, start, 15, 3)
    torch.testing.assert_close(values, torch.tensor([5.0, -3.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(vectors[:, :3].abs(), torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-9)
    assert residuals.max() < 1e-9


def test_hessian_of_a_part_is_that_of_the_drawn_examples(tiny):
    train, test, members = tiny
    member, count = members[0], len(train) // 2
    settings = {"iterations": 120, "num_eigenvalues": 2, "hessian_examples": count}
    (found,) = load_method("if_arnoldi").score([member], train, test, settings)
    drawn = torch.randperm(len(train), generator=stream(member.seed, "arnoldi examples"))[:count]
    values, vectors = torch.linalg.eigh(explicit_hessian(member.model, train[drawn]))
    dominant = values.abs().argsort(descending=True)[:2]
    left, right = (naive_gradients(member.model, split) @ vectors[:, dominant] for split in (train, test))
    expected = left / values[dominant] @ right.T
    torch.testing.assert_close(found.scores.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("count", "message"), [(-1, "of 1 example at least"), (10**6, "there are 6 training examples")])
def test_examples_of_the_hessian_must_be_there(ensemble: Ensemble, count: int, message: str):
    with pytest.raises(UserError, match=message):
        score("if_arnoldi", ensemble.members(15), ensemble.train, ensemble.test, hessian_examples=count)


def test_block_size_does_not_matter(ensemble: Ensemble, monkeypatch):
    (whole,) = score("if_arnoldi", ensemble.members(15), ensemble.train, ensemble.test, num_eigenvalues=2)
    monkeypatch.setattr("tda.curvature.inverses._BLOCK", 4)
    (blocks,) = score("if_arnoldi", ensemble.members(15), ensemble.train, ensemble.test, num_eigenvalues=2)
    torch.testing.assert_close(whole, blocks, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))


@pytest.mark.parametrize("kept", [0, 6])
def test_number_of_eigenvalues_must_fit(ensemble: Ensemble, kept: int):
    with pytest.raises(UserError, match="1 to 5 eigenvalues can be kept"):
        score("if_arnoldi", ensemble.members(15), ensemble.train, ensemble.test, iterations=5, num_eigenvalues=kept)
