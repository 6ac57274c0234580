"""Conjugate gradients for a positive definite operator and many right-hand sides that share one Krylov space.

A block of k right-hand sides searches k directions a step instead of one, for the price of the same k products (O'Leary 1980).
A separate search for each right-hand side would find the operator's few large eigenvalues again for every one of them; together
they find them in the first steps. The residuals are kept as orthonormal rows times small matrices, as in Dubrulle's stable
form (2001), so that right-hand sides that are solved early, or that depend on each other, do not spoil the rest.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tda.curvature.products import Products

_WELL_CONDITIONED = 100.0


@dataclass(frozen=True)
class BlockSolution:
    """x (k, p); relative residuals |b - A x| / |b| (k,), computed anew at the end; iterations used."""

    x: Tensor
    residuals: Tensor
    iterations: int


def block_conjugate_gradients(
    operator: Products, right_sides: Tensor, diagonal: Tensor, tolerance: float, max_iterations: int
) -> BlockSolution:
    """Solve A x = b for every row b of (k, p), preconditioned by a positive diagonal (p,) that is close to A.

    Stops when every relative residual is below `tolerance`, or after `max_iterations` block products. Where the recursion's
    residuals have drifted from the true ones, it starts again from what it has, unless that gained little the last time: then
    the operator's rounding errors are as large as the residuals.
    """
    norms = right_sides.norm(dim=1)
    scale = torch.where(norms > 0, norms, torch.ones_like(norms))[:, None]
    scaled, root = right_sides / scale, diagonal.rsqrt()
    x, rest, iterations, largest = torch.zeros_like(scaled), scaled, 0, 1.0
    while iterations < max_iterations:
        change, used = _search(operator, rest, root, tolerance, max_iterations - iterations)
        x, iterations, before = x + change, iterations + used, largest
        rest = scaled - operator(x)
        largest = float(rest.norm(dim=1).max())
        if largest < tolerance or largest > before / 2:
            break
    return BlockSolution(x * scale, rest.norm(dim=1), iterations)


def _search(operator: Products, right_sides: Tensor, root: Tensor, tolerance: float, limit: int) -> tuple[Tensor, int]:
    """One run of the recursion on the split-preconditioned operator root A root; returns x (k, p) and the steps."""
    weights, residuals = _orthonormal(right_sides * root)
    directions, x, steps = residuals, torch.zeros_like(right_sides), 0
    while steps < limit and len(residuals) and _largest_norm(weights, residuals, root) >= tolerance:
        steps += 1
        images = operator(directions * root) * root
        inner = directions @ images.T
        inverse = _inverse((inner + inner.T) / 2)
        x += weights @ inverse @ directions
        passed, residuals = _orthonormal(residuals - inverse @ images)
        directions = residuals + passed.T @ directions
        weights = weights @ passed
    return x * root, steps


def _largest_norm(weights: Tensor, orthonormal: Tensor, root: Tensor) -> float:
    """The largest norm among the rows of weights (k, r) times orthonormal rows (r, p), divided by root (p,)."""
    if bool((root == root[0]).all()):
        return float(weights.norm(dim=1).max() / root[0])
    rows = orthonormal / root
    return float(((weights @ (rows @ rows.T)) * weights).sum(dim=1).clamp(min=0).max().sqrt())


def _inverse(matrix: Tensor) -> Tensor:
    return torch.linalg.inv(matrix.double()).to(matrix.dtype)


def _orthonormal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """W (k, r) and orthonormal Q (r, p) with W Q = rows, without the directions that are rounding errors."""
    weights, found, spread = _orthogonalised(rows)
    if spread < _WELL_CONDITIONED:
        return weights, found
    # A second pass makes up for what the first, on ill-conditioned rows, leaves of orthogonality.
    again, found, _ = _orthogonalised(found)
    return weights @ again, found


def _orthogonalised(rows: Tensor) -> tuple[Tensor, Tensor, float]:
    """The same to rounding errors times the third value, the largest eigenvalue of the rows' kernel over the smallest."""
    values, vectors = torch.linalg.eigh((rows @ rows.T).double())
    kept = values > values.clamp(min=torch.finfo(torch.float64).tiny).max() * torch.finfo(rows.dtype).eps
    if not kept.any():
        return rows.new_zeros(len(rows), 0), rows[:0], 1.0
    sizes, vectors = values[kept].sqrt(), vectors[:, kept]
    spread = float(values.max() / values[kept].min())
    return (vectors * sizes).to(rows.dtype), (vectors / sizes).T.to(rows.dtype) @ rows, spread
