"""How smooth a training is as a function of its examples' weights (Engstrom et al. 2025, arXiv 2503.13751, section 3).

A training turns weights z of the training examples into a model A(z) and test losses f(z). Three trainings of the same start
and batches, at z, z + h v and z + 2 h v, tell how far a derivative at z can be trusted along the direction v.
"""

from collections.abc import Sequence

import numpy as np

from tda.statistics.linear_datamodeling_score import lds_of_each

PREDICTED = 0.5
"""Rank correlation from which a derivative is said to predict a removal."""


def sign_agreement(start: np.ndarray, middle: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Empirical metasmoothness (Definition 2): do coordinates go on in the direction in which they began?

        sum_i d_i sign(middle_i - start_i) sign(end_i - middle_i) / sum_i d_i,   d_i = |end_i - start_i|

    start, middle, end: (..., n) coordinates at z, z + h v and z + 2 h v, those of the model in the definition, test losses as
    well. Returns (...) in [-1, 1]: 1 where every coordinate goes on, as it does in a training that is linear along v; 0.41 for
    two steps of a random walk; 0 where the three points are drawn apart from each other. Where nothing moves it is 1.
    """
    first, second, moved = np.sign(middle - start), np.sign(end - middle), np.abs(end - start)
    total = moved.sum(axis=-1)
    return np.divide((moved * first * second).sum(axis=-1), total, out=np.ones(total.shape), where=total > 0)


def curvature(start: np.ndarray, middle: np.ndarray, end: np.ndarray, step: float) -> np.ndarray:
    """Metasmoothness of outputs (Definition 1), |f(z + 2 h v) - 2 f(z + h v) + f(z)| / h^2, smaller is smoother: (..., n)."""
    return np.abs(end - 2 * middle + start) / step**2


def forecast(begun: np.ndarray, done: np.ndarray) -> np.ndarray:
    """Does the beginning of a change tell the whole? Spearman's correlation over directions, for each output.

    begun: (D, n) changes of n outputs by a small step along each of D directions, done: by the whole way. Returns (n,); 0 where
    either does not vary.
    """
    return lds_of_each(begun, done)


def predicted_removal(removed: Sequence[int], forecasts: Sequence[float]) -> int:
    """The largest number of removed examples up to which every forecast is at least PREDICTED; 0 if there is none."""
    largest = 0
    for count, value in sorted(zip(removed, forecasts, strict=True)):
        if value < PREDICTED:
            break
        largest = count
    return largest
