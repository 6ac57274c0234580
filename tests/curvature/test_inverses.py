"""Damped inverses of the curvature against explicit ones."""

import pytest
import torch
from conftest import Ensemble
from tiny_model import explicit_gauss_newton, explicit_hessian, flat_parameters, naive_gradients

from tda.curvature.inverses import Solver, bilinear_scores, blocks_of_gradients, dual_inverse, iterative_inverse
from tda.data.splits import Split
from tda.system.errors import UserError

EVERY_FAMILY = True


def damped_inverse(matrix: torch.Tensor, damping: float) -> torch.Tensor:
    return torch.linalg.inv(matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype))


@pytest.mark.parametrize("damping", [5e-3, 0.1])
def test_dual_inverse_is_the_explicit_one(tiny, damping: float):
    train, _, members = tiny
    expected = damped_inverse(explicit_gauss_newton(members[0].model, train), damping)
    solved, residual = dual_inverse(members[0], train, damping)(torch.eye(len(expected), dtype=torch.float64))
    torch.testing.assert_close(solved, expected, rtol=1e-6, atol=1e-7 * float(expected.abs().max()))
    assert residual < 1e-8


@pytest.mark.parametrize(("matrix", "explicit"), [("gauss_newton", explicit_gauss_newton), ("hessian", explicit_hessian)])
def test_iterative_inverse_is_the_explicit_one(tiny, matrix: str, explicit):
    train, test, members = tiny
    vectors = naive_gradients(members[1].model, test)
    solved, residual = iterative_inverse(members[1], train, Solver(matrix, 0.05, 1e-9, 3000))(vectors)
    expected = vectors @ damped_inverse(explicit(members[1].model, train), 0.05)
    torch.testing.assert_close(solved, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
    assert 0 < residual < 1e-6


def test_zero_vector_has_the_solution_zero(tiny):
    train, _, members = tiny
    nothing = torch.zeros(2, len(flat_parameters(members[0].model)), dtype=torch.float64)
    for inverse in (
        dual_inverse(members[0], train, 0.1),
        iterative_inverse(members[0], train, Solver("hessian", 0.1, 1e-6, 9)),
    ):
        solved, residual = inverse(nothing)
        assert (solved == 0).all() and residual == 0


def test_bilinear_scores_solve_on_the_smaller_side(tiny):
    train, test, members = tiny
    size = len(flat_parameters(members[0].model))
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = {"forward": 0, "backward": 0}

    def applied(name: str, factor: torch.Tensor):
        def apply(vectors: torch.Tensor) -> tuple[torch.Tensor, float]:
            rows[name] += len(vectors)
            return vectors @ factor, 0.25

        return apply

    for count, expected_rows in ((12, {"forward": 0, "backward": 9}), (4, {"forward": 4, "backward": 9})):
        few = Split(test.inputs[:count], test.labels[:count], test.indices[:count])
        scores, residual = bilinear_scores(members[0], train, few, applied("forward", matrix.T), applied("backward", matrix))
        expected = naive_gradients(members[0].model, train) @ matrix @ naive_gradients(members[0].model, few).T
        torch.testing.assert_close(scores, expected, rtol=1e-8, atol=1e-9 * float(expected.abs().max()))
        assert residual == 0.25 and rows == expected_rows


def test_blocks_cover_every_example_in_order(tiny, monkeypatch: pytest.MonkeyPatch):
    train, _, members = tiny
    monkeypatch.setattr("tda.curvature.inverses._BLOCK", 4)
    blocks = list(blocks_of_gradients(members[0], train))
    assert [positions.tolist() for positions, _ in blocks] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    found = torch.cat([rows.dense() for _, rows in blocks])
    torch.testing.assert_close(found, naive_gradients(members[0].model, train), rtol=1e-9, atol=1e-12)


def test_unknown_matrix_is_refused(ensemble: Ensemble):
    with pytest.raises(UserError, match="unknown curvature matrix fisher"):
        iterative_inverse(ensemble.members(15)[0], ensemble.train, Solver("fisher", 0.1, 1e-4, 10))
