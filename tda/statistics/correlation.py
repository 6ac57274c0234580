"""Correlations between arrays of equal size."""

from collections.abc import Sequence

import numpy as np

from tda.system.threads import in_threads


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
    return pearson(list(in_threads(ranks, arrays)))


def ranks(array: np.ndarray) -> np.ndarray:
    """Ranks from 1 on, flat, equal values sharing their mean rank, as scipy.stats.rankdata gives them."""
    flat = array.ravel()
    order = np.argsort(flat)
    ascending = flat[order]
    first = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
    behind = np.r_[first[1:], flat.size]
    ranked = np.empty(flat.size)
    ranked[order] = np.repeat((first + behind + 1) / 2, behind - first)
    return ranked


def ranks_of_rows(array: np.ndarray) -> np.ndarray:
    """Ranks from 1 on within each row (..., n), in float64, equal values of a row sharing their mean rank."""
    rows = array.reshape(-1, array.shape[-1])
    order = np.argsort(rows, axis=1)
    ranked = np.empty(rows.shape)
    np.put_along_axis(ranked, order, np.arange(1.0, rows.shape[1] + 1)[None], axis=1)
    ascending = np.take_along_axis(rows, order, axis=1)
    # Few rows have equal values, if any, and only those are ranked with care.
    for row in np.flatnonzero((ascending[:, 1:] == ascending[:, :-1]).any(axis=1)):
        ranked[row] = ranks(rows[row])
    return ranked.reshape(array.shape)
