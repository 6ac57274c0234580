"""MINRES against dense solutions."""

import pytest
import torch

from tda.curvature.minres import minres


def symmetric(eigenvalues: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=generator, dtype=torch.float64))
    return basis * eigenvalues @ basis.T


def right_sides(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize(
    "eigenvalues",
    [torch.linspace(1, 50, 40), torch.cat([torch.linspace(-20, -0.5, 15), torch.linspace(0.1, 30, 25)])],
    ids=["definite", "indefinite"],
)
def test_solution_is_that_of_the_dense_solver(eigenvalues: torch.Tensor):
    matrix, b = symmetric(eigenvalues.double()), right_sides(5, 40)
    found = minres(lambda v: v @ matrix, b, tolerance=1e-10, max_iterations=500)
    torch.testing.assert_close(found.x, torch.linalg.solve(matrix, b.T).T, rtol=1e-6, atol=1e-7)
    assert found.residuals.shape == (5,) and found.residuals.max() < 1e-8
    assert found.iterations < 500


def test_residual_is_computed_anew():
    matrix, b = symmetric(torch.linspace(-3, 50, 40).double() + 0.01), right_sides(4, 40)
    found = minres(lambda v: v @ matrix, b, tolerance=1e-12, max_iterations=7)
    assert found.iterations == 7
    expected = (b - found.x @ matrix).norm(dim=1) / b.norm(dim=1)
    torch.testing.assert_close(found.residuals, expected)
    assert expected.max() > 1e-3


def test_stops_once_all_are_solved():
    found = minres(lambda v: 3 * v, right_sides(2, 10), tolerance=1e-8, max_iterations=100)
    assert found.iterations == 1
    torch.testing.assert_close(found.x, right_sides(2, 10) / 3)


def test_scale_of_a_right_side_does_not_matter():
    matrix, b = symmetric(torch.linspace(1, 9, 12).double()), right_sides(1, 12)
    both = torch.cat([b, 1e-12 * b])
    found = minres(lambda v: v @ matrix, both, tolerance=1e-9, max_iterations=100)
    torch.testing.assert_close(found.x[1] * 1e12, found.x[0], rtol=1e-9, atol=0)


def test_zero_right_side_has_the_solution_zero():
    matrix, b = symmetric(torch.linspace(-4, 9, 12).double()), right_sides(2, 12)
    b[0] = 0
    found = minres(lambda v: v @ matrix, b, tolerance=1e-9, max_iterations=100)
    assert (found.x[0] == 0).all() and found.residuals[0] == 0
    torch.testing.assert_close(found.x[1], torch.linalg.solve(matrix, b[1]), rtol=1e-6, atol=1e-8)
    alone = minres(lambda v: v @ matrix, torch.zeros(1, 12, dtype=torch.float64), tolerance=1e-9, max_iterations=5)
    assert (alone.x == 0).all() and torch.isfinite(alone.residuals).all()


def test_solved_rows_stay_solved_while_others_go_on():
    """A right side in a small Krylov space is done long before the others, and must not be spoiled by more steps."""
    matrix = symmetric(torch.linspace(1, 200, 60).double())
    easy = torch.linalg.eigh(matrix)[1][:, 3]
    b = torch.stack([easy, right_sides(1, 60)[0]])
    found = minres(lambda v: v @ matrix, b, tolerance=1e-9, max_iterations=400)
    assert found.residuals.max() < 1e-7
    torch.testing.assert_close(found.x[0], torch.linalg.solve(matrix, easy), rtol=1e-6, atol=1e-9)
