"""Block conjugate gradients against dense solutions."""

import pytest
import torch

from tda.curvature.block_conjugate_gradients import block_conjugate_gradients
from tda.curvature.minres import minres


def positive(eigenvalues: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=generator, dtype=torch.float64))
    return basis * eigenvalues.double() @ basis.T


def right_sides(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def solve(matrix: torch.Tensor, b: torch.Tensor, diagonal: torch.Tensor | None = None, **options):
    diagonal = torch.ones(len(matrix), dtype=matrix.dtype) if diagonal is None else diagonal
    return block_conjugate_gradients(
        lambda v: v @ matrix, b, diagonal, **({"tolerance": 1e-10, "max_iterations": 99} | options)
    )


@pytest.mark.parametrize("count", [1, 5, 40, 60])
def test_solution_is_that_of_the_dense_solver(count: int):
    matrix, b = positive(torch.logspace(-1, 2, 40)), right_sides(count, 40)
    found = solve(matrix, b)
    torch.testing.assert_close(found.x, torch.linalg.solve(matrix, b.T).T, rtol=1e-6, atol=1e-6)
    assert found.residuals.shape == (count,) and found.residuals.max() < 1e-9


def test_a_block_as_wide_as_the_space_is_solved_by_one_product():
    matrix = positive(torch.logspace(-2, 2, 12))
    assert solve(matrix, right_sides(12, 12)).iterations == 1


def test_a_shared_search_needs_fewer_products_than_separate_ones():
    matrix, b = positive(torch.cat([torch.linspace(10, 900, 30), torch.ones(90)])), right_sides(10, 120)
    shared = solve(matrix, b, tolerance=1e-6)
    alone = minres(lambda v: v @ matrix, b, 1e-6, 200)
    assert shared.iterations <= 6 < alone.iterations
    assert shared.residuals.max() < 1e-6


def test_preconditioner_that_is_the_diagonal_itself_leaves_one_step():
    values = torch.logspace(-3, 3, 50, dtype=torch.float64)
    found = solve(torch.diag(values), right_sides(2, 50), values)
    assert found.iterations == 1
    torch.testing.assert_close(found.x, right_sides(2, 50) / values, rtol=1e-8, atol=0)


def test_preconditioner_changes_the_way_and_not_the_solution():
    scale = torch.logspace(-2, 2, 60, dtype=torch.float64)
    matrix = scale[:, None].sqrt() * positive(torch.linspace(1, 4, 60)) * scale.sqrt()
    b = right_sides(3, 60)
    plain, helped = solve(matrix, b), solve(matrix, b, matrix.diagonal())
    assert helped.iterations < plain.iterations
    torch.testing.assert_close(helped.x, torch.linalg.solve(matrix, b.T).T, rtol=1e-6, atol=1e-7)


def test_dependent_and_zero_right_sides_do_no_harm():
    matrix, b = positive(torch.logspace(-1, 2, 30)), right_sides(3, 30)
    b = torch.cat([b, b[:2], b[:1] - b[1:2], torch.zeros(1, 30, dtype=b.dtype), 1e-20 * b[:1]])
    found = solve(matrix, b)
    torch.testing.assert_close(found.x, torch.linalg.solve(matrix, b.T).T, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found.x[-1] * 1e20, found.x[0], rtol=1e-6, atol=1e-9)
    assert (found.x[-2] == 0).all() and found.residuals[-2] == 0
    nothing = solve(matrix, torch.zeros(2, 30, dtype=b.dtype))
    assert (nothing.x == 0).all() and nothing.residuals.max() == 0


def test_residual_is_computed_anew_and_iterations_are_bounded():
    matrix, b = positive(torch.logspace(-4, 2, 60)), right_sides(2, 60)
    found = solve(matrix, b, max_iterations=4)
    assert found.iterations == 4
    torch.testing.assert_close(found.residuals, (b - found.x @ matrix).norm(dim=1) / b.norm(dim=1))
    assert found.residuals.max() > 1e-3


def test_single_precision_reaches_its_tolerance():
    matrix, b = positive(torch.logspace(-1, 2, 80)).float(), right_sides(20, 80).float()
    found = solve(matrix, b, tolerance=1e-4)
    assert found.x.dtype == torch.float32 and found.residuals.max() < 1e-4


def test_stops_where_rounding_errors_leave_nothing_to_gain():
    matrix, b = positive(torch.logspace(-1, 4, 80)).float(), right_sides(20, 80).float()
    found = solve(matrix, b, tolerance=1e-7, max_iterations=500)
    assert found.iterations < 300 and 1e-7 < found.residuals.max() < 1e-2
