"""Correlations between arrays of equal size."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata


def pearson(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Pearson correlation (m, m) of m arrays of equal size; NaN where an array is constant, for then it is undefined."""
    flat = np.stack([array.ravel() for array in arrays])
    constant = flat.min(axis=1) == flat.max(axis=1)
    # Each array is brought to the scale of 1, so that squares of the smallest scores do not vanish.
    largest = np.where(constant, 1.0, np.abs(flat).max(axis=1))
    scaled = flat / largest[:, None]
    centred = scaled - scaled.mean(axis=1, keepdims=True)
    length = np.where(constant, np.nan, np.linalg.norm(centred, axis=1))
    return np.clip(centred @ centred.T / np.outer(length, length), -1, 1)


def spearman(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Spearman rank correlation (m, m) of m arrays of equal size, ties sharing their mean rank; NaN as in pearson."""
    return pearson([rankdata(array) for array in arrays])
