"""A figure of merit over the seeds of an ensemble, with its 95 % interval."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

_LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its 95 % interval; without two seeds the ends are NaN."""

    value: float
    low: float
    high: float


def over_seeds(values: np.ndarray) -> Estimate:
    """The mean of one value a seed (n,), with Student's interval over the seeds."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return Estimate(float(values[0]), np.nan, np.nan)
    return _interval(values.mean(), values.std(ddof=1) / np.sqrt(len(values)), len(values))


def jackknife(maps: Tensor, merit: Callable[[Tensor], Tensor]) -> Estimate:
    """merit(mean of maps (seeds, ...) over the seeds), with the jackknife's interval: each seed in turn is left out."""
    count, total = len(maps), maps.sum(0)
    value = float(merit(total / count))
    if count < 2:
        return Estimate(value, np.nan, np.nan)
    without = torch.stack([merit((total - own) / (count - 1)) for own in maps]).double().numpy()
    return _interval(value, np.sqrt((count - 1) * without.var()), count)


def _interval(value: float, error: float, count: int) -> Estimate:
    half = stats.t.ppf((1 + _LEVEL) / 2, count - 1) * error
    return Estimate(float(value), float(value - half), float(value + half))
