"""TRAK's regression: a ridge, and the solve with it, for the methods and for TRAKer alike (Park et al. 2023, section 3)."""

import torch
from torch import Tensor

from tda.system.errors import UserError


def require_not_negative(ridge: float | None, name: str = "ridge") -> None:
    """Raise UserError, which calls the ridge by its name, unless it is None or a number of at least 0."""
    if ridge is not None and not ridge >= 0:
        raise UserError(f"{name} is {ridge}; it must be at least 0, or None for the mean of the kernel's diagonal")


def checked_ridge(ridge: float | None, squared_norms: Tensor) -> float:
    """The ridge asked for, or else the mean of the training examples' squared norms, that of the kernel's diagonal.

    Raises UserError if it is negative or not a number.
    """
    require_not_negative(ridge)
    return float(squared_norms.mean()) if ridge is None else float(ridge)


def solve_with_ridge(matrix: Tensor, right_sides: Tensor, ridge: float) -> tuple[Tensor, float]:
    """(matrix + ridge)^-1 right_sides, and its largest relative residual; matrix (m, m), right_sides (m, k), float64.

    Raises UserError if the matrix cannot be inverted with this ridge, or only thanks to rounding.
    """
    system = matrix + ridge * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    triangle, failed = torch.linalg.cholesky_ex(system)
    pivots = triangle.diagonal().square()
    # Two equal examples make the matrix singular, but rounding may leave the last pivot a little above 0.
    if failed or not pivots.min() > len(matrix) * torch.finfo(torch.float64).eps * pivots.max():
        raise UserError(f"TRAK's regression cannot be solved with a ridge of {ridge:.3g}; raise it, or leave it to the default")
    solved = torch.cholesky_solve(right_sides, triangle)
    sizes = right_sides.norm(dim=0).clamp(min=torch.finfo(matrix.dtype).tiny)
    return solved, float(((system @ solved - right_sides).norm(dim=0) / sizes).max())
