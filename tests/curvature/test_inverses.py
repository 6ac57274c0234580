"""Damped inverses of the curvature against explicit ones."""

import pytest
import torch
from conftest import for_some
from tiny_model import explicit_gauss_newton, explicit_hessian, flat_parameters, naive_gradients

from tda.curvature.inverses import (
    Solver,
    bilinear_scores,
    blocks_of_gradients,
    iterative_inverse,
    primal_inverse,
    times_vectors,
)
from tda.curvature.products import unflatten
from tda.system.errors import UserError

EVERY_FAMILY = True


def damped_inverse(matrix: torch.Tensor, damping: float) -> torch.Tensor:
    return torch.linalg.inv(matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype))


@pytest.mark.parametrize(
    ("matrix", "explicit"), [("gauss_newton", explicit_gauss_newton), for_some("hessian", explicit_hessian)]
)
def test_iterative_inverse_is_the_explicit_one(tiny, matrix: str, explicit):
    train, test, members = tiny
    vectors = naive_gradients(members[1].model, test[:4])
    inverse = iterative_inverse(members[1].model, members[1].objective, train, Solver(matrix, 0.2, 1e-9, 3000))
    solved, residual = inverse(vectors)
    expected = vectors @ damped_inverse(explicit(members[1].model, train), 0.2)
    torch.testing.assert_close(solved, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
    assert 0 < residual < 1e-6


def test_primal_inverse_is_the_explicit_one(tiny):
    train, test, members = tiny
    vectors = naive_gradients(members[1].model, test)
    solved, residual = primal_inverse(members[1].model, members[1].objective, train, 0.05)(vectors)
    expected = vectors @ damped_inverse(explicit_gauss_newton(members[1].model, train), 0.05)
    torch.testing.assert_close(solved, expected, rtol=1e-7, atol=1e-8 * float(expected.abs().max()))
    assert residual < 1e-10


def test_zero_vector_has_the_solution_zero(tiny):
    train, _, members = tiny
    nothing = torch.zeros(2, len(flat_parameters(members[0].model)), dtype=torch.float64)
    model, objective = members[0].model, members[0].objective
    for inverse in (
        primal_inverse(model, objective, train, 0.1),
        iterative_inverse(model, objective, train, Solver("hessian", 0.1, 1e-6, 9)),
    ):
        solved, residual = inverse(nothing)
        assert (solved == 0).all() and residual == 0


def test_bilinear_scores_solve_on_the_smaller_side(tiny):
    train, test, members = tiny
    model, size = members[0].model, len(flat_parameters(members[0].model))
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = {"forward": 0, "backward": 0}

    def applied(name: str, factor: torch.Tensor):
        def apply(vectors: torch.Tensor) -> tuple[torch.Tensor, float]:
            rows[name] += len(vectors)
            return vectors @ factor, 0.25

        return apply

    for count, expected_rows in ((12, {"forward": 0, "backward": 9}), (4, {"forward": 4, "backward": 9})):
        few, operators = test[:count], (applied("forward", matrix.T), applied("backward", matrix))
        scores, residual = bilinear_scores(model, members[0].objective, train, few, *operators)
        expected = naive_gradients(model, train) @ matrix @ naive_gradients(model, few).T
        torch.testing.assert_close(scores, expected, rtol=1e-8, atol=1e-9 * float(expected.abs().max()))
        assert residual == 0.25 and rows == expected_rows


def test_blocks_cover_every_example_in_order(tiny, monkeypatch: pytest.MonkeyPatch):
    train, _, members = tiny
    monkeypatch.setattr("tda.curvature.inverses._BLOCK", 4)
    model, objective = members[0].model, members[0].objective
    found = [rows.dense() for rows in blocks_of_gradients(model, objective.loss, train)]
    assert [len(rows) for rows in found] == [4, 4, 1]
    expected = naive_gradients(model, train)
    torch.testing.assert_close(torch.cat(found), expected, rtol=1e-9, atol=1e-12)
    vectors = torch.randn(3, expected.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    products = times_vectors(model, objective.loss, train, unflatten(vectors, model))
    torch.testing.assert_close(products, vectors @ expected.T, rtol=1e-9, atol=1e-11)


@pytest.mark.families("cnn")
def test_unknown_matrix_is_refused(tiny):
    train, _, members = tiny
    with pytest.raises(UserError, match="unknown curvature matrix fisher"):
        iterative_inverse(members[0].model, members[0].objective, train, Solver("fisher", 0.1, 1e-4, 10))
