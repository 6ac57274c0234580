"""TRAK's linear algebra: features Phi (Phi^T Phi + lambda)^-1 of n training examples, on the smaller of n and d, and scores.

Everything goes by blocks of rows, so that memory does not grow with n. Scores need no features: the rows themselves, multiplied
with (Phi^T Phi + lambda)^-1 phi(target), are the same numbers, for which a d x d factor is kept in place of (n, d) features.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tda.system.errors import UserError
from tda.system.memory import release
from tda.trak.arrays import Place
from tda.trak.regression import checked_ridge

_BLOCK_BYTES = 3 * 2**28
"""What the blocks of rows take at once where no budget is given."""

_ENOUGH_ROWS = 2**12
"""Rows of a block, at most: more of them take memory, and no less time."""

_FEWEST_ROWS = 64
"""Rows of a block for which a budget must have room."""

_SUMMED_IN_FLOAT32 = 2**11
"""Products of float16 numbers that are summed in float32 before the sum is added in float64."""

_PANEL = 512
"""Columns of Phi that are multiplied at once."""


class Targets:
    """Rows (m, d) of which scores are products, by blocks of targets: projected gradients as they are."""

    def __init__(self, gradients: np.ndarray) -> None:
        self.gradients = gradients

    def __len__(self) -> int:
        return len(self.gradients)

    def block(self, targets: slice, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A block's rows (b, d)."""
        return torch.tensor(self.gradients[targets], dtype=dtype, device=device)


class SolvedTargets(Targets):
    """The same multiplied with (Phi^T Phi + lambda)^-1, from the Cholesky factor (d, d) float64 of what is inverted.

    largest_residual: the largest relative one of the blocks so far.
    """

    def __init__(self, gradients: np.ndarray, factor: np.ndarray) -> None:
        super().__init__(gradients)
        self.factor = factor
        self.largest_residual = 0.0

    def block(self, targets: slice, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A block's solved rows (b, d)."""
        right_sides, factor = _block(self.gradients, targets, device).T, torch.tensor(self.factor, device=device)
        solved = torch.cholesky_solve(right_sides, factor)
        missed = (factor @ (factor.T @ solved) - right_sides).norm(dim=0)
        sizes = right_sides.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
        self.largest_residual = max(self.largest_residual, float((missed / sizes).max()))
        return solved.T.to(dtype)


@dataclass(frozen=True)
class ModelParts:
    """What one checkpoint adds to the scores: rows (n, d), out_to_loss (n,), the diagonal of Q, and targets (m, d).

    rows are features, or the gradients where the targets are solved.
    """

    rows: np.ndarray
    out_to_loss: np.ndarray
    targets: Targets


def features(
    gradients: np.ndarray, ridge: float | None, device: torch.device, memory_budget: int | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of rows of Phi (Phi^T Phi + ridge)^-1 (n, d) in float64 for projected gradients Phi (n, d).

    ridge: lambda, None for the mean of the diagonal of the kernel Phi Phi^T. With 0 and n < d it is the pseudoinverse.
    memory_budget: bytes held at once, in all. Raises UserError if the matrix to invert is singular, or the budget too small.
    """
    count, dimension = gradients.shape
    ridge = checked_ridge(ridge, squared_norms(gradients))
    if count < dimension:
        require_room(dimension, memory_budget, 24 * count * dimension + 16 * count**2)
        whole = _block(gradients, slice(None), device)
        solving = _factor(whole @ whole.T, ridge)
        yield slice(0, count), torch.cholesky_solve(whole, solving).cpu().numpy()
        return
    solving = _factor(_gram(gradients, device, memory_budget), ridge)
    for rows in _row_blocks(count, _rows_at_once(dimension, memory_budget)):
        yield rows, torch.cholesky_solve(_block(gradients, rows, device).T, solving).T.cpu().numpy()
        release(gradients)


def factor(gradients: np.ndarray, ridge: float | None, device: torch.device, memory_budget: int | None = None) -> np.ndarray:
    """The lower Cholesky factor (d, d) float64 of Phi^T Phi + ridge, for SolvedTargets; ridge, memory_budget: as for features.

    Raises UserError if the matrix is singular, as with a ridge of 0 and n < d, or the budget too small.
    """
    ridge = checked_ridge(ridge, squared_norms(gradients))
    return _factor(_gram(gradients, device, memory_budget), ridge).cpu().numpy()


def scores(
    models: list[ModelParts], dtype: np.dtype, device: torch.device, memory_budget: int | None = None
) -> Iterator[tuple[Place, np.ndarray]]:
    """Blocks of the scores (n, m): the mean over models of rows times targets, times the mean of Q.

    Park et al., ICML 2023, section 3; Q counts how much the loss falls: positive = helpful.
    """
    weights = mean_out_to_loss(models)
    for (rows, columns), products in mean_products(models, dtype, device, memory_budget):
        yield (rows, columns), products * weights[rows, None]


def mean_products(
    models: list[ModelParts], dtype: np.dtype, device: torch.device, memory_budget: int | None = None
) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Blocks of the mean over models of rows times targets (n, m), without Q; all rows for each block of targets."""
    accuracy, (count, dimension) = torch.from_numpy(np.empty(0, dtype)).dtype, models[0].rows.shape
    itemsize, budget = np.dtype(dtype).itemsize, memory_budget or _BLOCK_BYTES
    num_targets = len(models[0].targets)
    # Solving takes three copies of a block in float64.
    targets_at_once = min(num_targets, max(1, budget // (2 * dimension * (len(models) * itemsize + 24))))
    # A block's rows, their copy in the precision of the product, the product, and it times Q in float64.
    each_row = 2 * dimension * itemsize + targets_at_once * (2 * itemsize + 8)
    rows_at_once = max(1, min(_ENOUGH_ROWS, budget // (2 * each_row)))
    for columns in _row_blocks(num_targets, targets_at_once):
        targets = [model.targets.block(columns, accuracy, device).T for model in models]
        for rows in _row_blocks(count, rows_at_once):
            products = (
                torch.from_numpy(np.array(model.rows[rows], dtype)).to(device) @ target
                for model, target in zip(models, targets, strict=True)
            )
            yield (rows, columns), sum(products).cpu().numpy() / len(models)
            for model in models:
                release(model.rows)


def features_by_gram(gradients: Tensor, gram: Tensor, ridge: float | None) -> Tensor:
    """Phi (Phi^T Phi + ridge)^-1 (n, d) of Phi (n, d) and Phi^T Phi (d, d), float64 both; raises UserError if it is singular.

    ridge: as for features; the sum of squared norms is the trace of either product.
    """
    ridge = checked_ridge(ridge, gram.diagonal().sum()[None] / len(gradients))
    return torch.cholesky_solve(gradients.T, _factor(gram.clone(), ridge)).T


def mean_out_to_loss(models: list[ModelParts]) -> np.ndarray:
    """The mean of Q over models (n,) float64."""
    return np.mean([model.out_to_loss for model in models], axis=0, dtype=np.float64)


def squared_norms(gradients: np.ndarray) -> Tensor:
    """Squared norm of each row (n,) float64: the diagonal of their kernel."""
    found = torch.empty(len(gradients), dtype=torch.float64)
    for rows in _row_blocks(len(gradients), max(1, 2**21 // max(1, gradients.shape[1]))):
        found[rows] = torch.from_numpy(np.square(gradients[rows], dtype=np.float64).sum(axis=1))
        release(gradients)
    return found


def _gram(gradients: np.ndarray, device: torch.device, memory_budget: int | None) -> Tensor:
    """Phi^T Phi (d, d) float64.

    Products of two float16 numbers are exact in float32, and the sum of a few thousand rounds less than float16 itself has; so
    rows in float16 are multiplied in float32, in half the time, and sums of them are added up in float64.
    """
    count, dimension = gradients.shape
    in_half = gradients.dtype == np.float16
    gram = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)
    for rows in _row_blocks(count, _rows_at_once(dimension, memory_budget)):
        block = torch.from_numpy(np.asarray(gradients[rows], np.float32 if in_half else np.float64)).to(device)
        for part in block.split(_SUMMED_IN_FLOAT32 if in_half else len(block)):
            for start in range(0, dimension, _PANEL):
                # What is below the diagonal is known from what is above it.
                gram[start : start + _PANEL, start:] += part[:, start : start + _PANEL].T @ part[:, start:]
        release(gradients)
    above = gram.triu(1)
    return gram.triu_().add_(above.T)


def require_room(dimension: int, memory_budget: int | None, needed: int | None = None) -> None:
    """Raise UserError where a budget has no room for the matrices (d, d) and a few rows, or for `needed` bytes."""
    needed = 24 * dimension**2 + 24 * dimension * _FEWEST_ROWS if needed is None else needed
    if memory_budget is not None and memory_budget < needed:
        raise UserError(
            f"a memory_budget of {memory_budget:,} bytes is too small for proj_dim={dimension}; give {needed:,} or more, or a "
            "smaller proj_dim"
        )


def _rows_at_once(dimension: int, memory_budget: int | None) -> int:
    """How many rows, of which three copies in float64 are held, fit beside three matrices (d, d), and are worth holding."""
    require_room(dimension, memory_budget)
    room = _BLOCK_BYTES if memory_budget is None else memory_budget - 24 * dimension**2
    return max(1, min(_ENOUGH_ROWS, room // (24 * dimension)))


def _row_blocks(count: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _block(gradients: np.ndarray, rows: slice, device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(gradients[rows], dtype=np.float64)).to(device)


def _factor(gram: Tensor, ridge: float) -> Tensor:
    gram.diagonal().add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(gram)
    pivots = factor.diagonal().square()
    if failed or not pivots.min() > len(gram) * torch.finfo(gram.dtype).eps * pivots.max():
        raise UserError(
            f"the gradients' kernel is singular with lambda_reg={ridge:g}; choose a larger lambda_reg, or None for the mean of "
            "its diagonal"
        )
    return factor
