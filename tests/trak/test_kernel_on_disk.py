"""The factor on disk solves what a factor in memory solves."""

from pathlib import Path

import pytest
import torch

from tda.system.errors import UserError
from tda.trak.kernel_on_disk import KernelOnDisk, panel_width
from tda.trak.regression import solve_with_ridge


@pytest.mark.parametrize("width", [1, 7, 16, 50])
@pytest.mark.parametrize("scaled", [False, True])
def test_solution_is_that_in_memory(tmp_path: Path, width: int, scaled: bool):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(50, 30, generator=generator, dtype=torch.float64)
    # Two triangles that differ a little, as rounding leaves them.
    kernel = rows @ rows.T + 1e-3 * torch.rand(50, 50, generator=generator)
    right = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    roots = torch.rand(50, generator=generator, dtype=torch.float64) + 0.5 if scaled else None
    full = (kernel + kernel.T) / 2
    system = full if roots is None else roots[:, None] * full * roots
    expected, _ = solve_with_ridge(system, right, 2.0)
    found, residual = KernelOnDisk(lambda own: kernel[own], 50, 2.0, tmp_path, width, roots).solve(right)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    scale = torch.ones(50, dtype=torch.float64) if roots is None else roots
    missed = scale[:, None] * (kernel @ (scale[:, None] * expected)) + 2.0 * expected - right
    assert residual == pytest.approx(float((missed.norm(dim=0) / right.norm(dim=0)).max()), rel=1e-6)
    assert list(tmp_path.iterdir()) == []


def test_a_singular_kernel_is_refused(tmp_path: Path):
    kernel = torch.ones(6, 6, dtype=torch.float64)
    with pytest.raises(UserError, match="cannot be solved with a ridge of 0"):
        KernelOnDisk(lambda own: kernel[own], 6, 0.0, tmp_path, 2)


def test_a_budget_without_room_for_panels_is_refused():
    assert panel_width(100, 32 * 100 * 20) == 20 and panel_width(10, 2**30) == 10
    with pytest.raises(UserError, match="too small for the kernel of 1,000,000 gradients; give 0.48 or more"):
        panel_width(1_000_000, 2**25)


def test_a_panel_holds_whole_examples():
    assert panel_width(100, 32 * 100 * 25, rows_of_example=10) == 20
    assert panel_width(100, 32 * 100 * 50, rows_of_example=50) == 50
    with pytest.raises(UserError, match="kernel of 100 gradients; give 0.00015 or more"):
        panel_width(100, 32 * 100 * 49, rows_of_example=50)
