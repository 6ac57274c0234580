"""TRAK's linear algebra: features Phi (Phi^T Phi + lambda)^-1 of n training examples, on the smaller of n and d, and scores."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tda.system.errors import UserError
from tda.trak.regression import checked_ridge

_BLOCK_ENTRIES = 2**25
"""Entries of a matrix that are in memory as float64 at once."""


@dataclass(frozen=True)
class ModelParts:
    """What one checkpoint adds to the scores: features (n, d), out_to_loss (n,), the diagonal of Q, and targets (m, d)."""

    features: np.ndarray
    out_to_loss: np.ndarray
    targets: np.ndarray


def features(gradients: np.ndarray, ridge: float | None, device: torch.device) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of rows of Phi (Phi^T Phi + ridge)^-1 (n, d) in float64 for projected gradients Phi (n, d).

    ridge: lambda, None for the mean of the diagonal of the kernel Phi Phi^T. With 0 and n < d it is the pseudoinverse.
    Raises UserError if the matrix to invert is singular.
    """
    count, dimension = gradients.shape
    ridge = checked_ridge(ridge, _squared_norms(gradients))
    if count < dimension:
        whole = _block(gradients, slice(None), device)
        factor = _factor(whole @ whole.T, ridge)
        yield slice(0, count), torch.cholesky_solve(whole, factor).cpu().numpy()
        return
    gram = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)
    for rows in _row_blocks(count, dimension):
        block = _block(gradients, rows, device)
        gram.addmm_(block.T, block)
    factor = _factor(gram, ridge)
    for rows in _row_blocks(count, dimension):
        yield rows, torch.cholesky_solve(_block(gradients, rows, device).T, factor).T.cpu().numpy()


def scores(models: list[ModelParts], dtype: np.dtype, device: torch.device) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of rows of the scores (n, m): the mean over models of features times targets, times the mean of Q.

    Park et al., ICML 2023, section 3; Q counts how much the loss falls: positive = helpful.
    """
    weights = mean_out_to_loss(models) / len(models)
    accuracy = torch.from_numpy(np.empty(0, dtype)).dtype
    targets = [torch.tensor(model.targets, dtype=accuracy, device=device).T for model in models]
    for rows in _row_blocks(len(weights), max(target.numel() // len(target) for target in targets)):
        products = (
            torch.tensor(model.features[rows], dtype=accuracy, device=device) @ target
            for model, target in zip(models, targets, strict=True)
        )
        yield rows, sum(products).cpu().numpy() * weights[rows, None]


def features_by_gram(gradients: Tensor, gram: Tensor, ridge: float | None) -> Tensor:
    """Phi (Phi^T Phi + ridge)^-1 (n, d) of Phi (n, d) and Phi^T Phi (d, d), float64 both; raises UserError if it is singular.

    ridge: as for features; the sum of squared norms is the trace of either product.
    """
    ridge = checked_ridge(ridge, gram.diagonal().sum()[None] / len(gradients))
    return torch.cholesky_solve(gradients.T, _factor(gram.clone(), ridge)).T


def mean_out_to_loss(models: list[ModelParts]) -> np.ndarray:
    """The mean of Q over models (n,) float64."""
    return np.mean([model.out_to_loss for model in models], axis=0, dtype=np.float64)


def _squared_norms(gradients: np.ndarray) -> Tensor:
    """Squared norm of each row (n,) float64: the diagonal of their kernel."""
    blocks = _row_blocks(*gradients.shape)
    return torch.from_numpy(np.concatenate([np.square(gradients[rows], dtype=np.float64).sum(axis=1) for rows in blocks]))


def _row_blocks(count: int, width: int) -> Iterator[slice]:
    step = max(1, _BLOCK_ENTRIES // max(1, width))
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
