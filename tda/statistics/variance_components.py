"""Where the spread of a pair's score comes from: initialisation, order of batches, their combination, checkpoint of a run.

Every one of a initialisations is trained with every one of b orders, and the same K checkpoints of each run are scored. A run's
mean over its checkpoints is taken apart as in a two-way layout without replication,

    mean[i, j] = m + A[i] + B[j] + (AB)[i, j]

with A, B and AB random: AB is all that only this start with this order does. Their variances are estimated by equating mean
squares with their expectations (analysis of variance; Searle, Casella and McCulloch, Variance Components, 1992, chapter 4):

    E[MS_AB] = s_AB    E[MS_A] = s_AB + b s_A    E[MS_B] = s_AB + a s_B

The same sum, s_A + s_B + s_AB, estimated at each checkpoint by itself and averaged over the K, is the variance of one
checkpoint's score among unrelated runs. What it exceeds the sum for the run's mean by is the checkpoint's contribution: how far
a run's checkpoints lie from its mean, otherwise than in other runs. Nothing is assumed of how checkpoints of a run depend on
each other, and what an epoch does to all runs alike is no part of any variance.

The estimates are unbiased, whatever the distributions, and can therefore be negative where a component is next to nothing; they
are not cut off at 0, which would bias their sums over pairs. Shares are of such sums: of many pairs together they are steadier
than those of a single pair of a 5 x 5 design. Intervals are by the jackknife over initialisations and over orders.
"""

from dataclasses import dataclass

import numpy as np

from tda.statistics.intervals import Estimate, jackknifed

SOURCES = ("initialisation", "order", "combination", "checkpoint")
"""The components, in the order in which they are told; combination: what only this start with this order does."""


@dataclass(frozen=True)
class Shares:
    """What each source contributes to the variance of a pair's score, by name; the shares add up to 1.

    total: sum of the contributions over the pairs, in the square of the scores' unit. added_up: that sum over the variance of
    runs that share neither start nor order (those on the design's diagonal), which is estimated apart from it; about 1.
    """

    shares: dict[str, Estimate]
    total: float
    added_up: Estimate

    def columns(self) -> dict[str, float]:
        """The numbers as columns of a table."""
        found = {}
        for name, estimate in self.shares.items():
            found |= estimate.columns(name, f"{name}_low", f"{name}_high")
        return found | {"variance": self.total} | self.added_up.columns("added_up", "added_up_low", "added_up_high")


def components(scores: np.ndarray) -> np.ndarray:
    """Variance components (4, pairs) float64 in the order of SOURCES, of scores (a, b, K, pairs); a and b at least 2."""
    scores = np.asarray(scores, dtype=np.float64)
    of_mean = _two_way(scores.mean(axis=2))
    at_each = sum(_two_way(scores[:, :, place]).sum(axis=0) for place in range(scores.shape[2])) / scores.shape[2]
    return np.concatenate([of_mean, [at_each - of_mean.sum(axis=0)]])


def _two_way(values: np.ndarray) -> np.ndarray:
    """Variances (3, pairs) of initialisation, order and combination, of values (a, b, pairs)."""
    num_starts, num_orders = values.shape[:2]
    grand, by_start, by_order = values.mean(axis=(0, 1)), values.mean(axis=1), values.mean(axis=0)
    start = num_orders * _square_sum(by_start - grand) / (num_starts - 1)
    order = num_starts * _square_sum(by_order - grand) / (num_orders - 1)
    both = _square_sum(values - by_start[:, None] - by_order + grand) / ((num_starts - 1) * (num_orders - 1))
    return np.stack([(start - both) / num_orders, (order - both) / num_starts, both])


def shares(scores: np.ndarray, each_pair_alike: bool, averaged: bool) -> Shares:
    """The shares of the sources in scores (a, b, K, pairs), a and b at least 2, with 95 % intervals.

    each_pair_alike: each pair's scores are first divided by their root mean square deviation over all runs and checkpoints, so
    that the pairs weigh the same; else those that vary most rule. averaged: of the mean of a run's K checkpoints, to which no
    single one contributes; else of one checkpoint's score. Pairs that never vary are left out; where all are, and for intervals
    of a design with two starts or orders, values are NaN.
    """
    scores = np.asarray(scores, dtype=np.float64).reshape(*np.shape(scores)[:3], -1)
    spread = scores.std(axis=(0, 1, 2))
    scores = scores[..., spread > 0]
    if each_pair_alike:
        scores = scores / spread[spread > 0]
    whole = _told(scores, averaged)
    without_start = np.stack([_told(np.delete(scores, i, axis=0), averaged) for i in range(scores.shape[0])])
    without_order = np.stack([_told(np.delete(scores, j, axis=1), averaged) for j in range(scores.shape[1])])
    told = [jackknifed(whole[place], without_start[:, place], without_order[:, place]) for place in range(len(SOURCES) + 1)]
    return Shares(dict(zip(SOURCES, told[:-1], strict=True)), float(whole[-1]), told[-1])


def _told(scores: np.ndarray, averaged: bool) -> np.ndarray:
    """(6,): the four shares, how the contributions' sum compares with unrelated runs, and that sum, of all pairs together.

    NaN without pairs, and where a single start, or order, is left of two.
    """
    if min(scores.shape[:2]) < 2 or not scores.shape[-1]:
        return np.full(len(SOURCES) + 2, np.nan)
    summed = components(scores).sum(axis=1)
    unrelated = range(min(scores.shape[:2]))
    apart = scores[unrelated, unrelated]
    if averaged:
        summed[-1] = 0
        apart = apart.mean(axis=1, keepdims=True)
    # Epoch by epoch, for the epochs' own effects are no part of a score's variance.
    apart = apart.var(axis=0, ddof=1).mean(axis=0).sum()
    return np.array([*summed / summed.sum(), summed.sum() / apart, summed.sum()])


def _square_sum(deviations: np.ndarray) -> np.ndarray:
    """Sum of squares over all axes but the last."""
    flat = deviations.reshape(-1, deviations.shape[-1])
    return np.einsum("np,np->p", flat, flat)
