"""What the runs of an ensemble say of each pair, as ranks that two methods can be compared by, with each seed left out in turn.

A run is one seed's training; its score of a (training, test) pair is the mean over its last checkpoints. Everything is stored
test example by test example, so that leaving one out is leaving out a block.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from tda.statistics.correlation import ranks, ranks_of_rows
from tda.statistics.pair_statistics import SIGNIFICANCE_LEVEL, mean_and_std, signal_to_noise

SPLITS = 3
"""How often the seeds are split into halves, each half once the method's and once the other's."""
FEWEST_IN_HALF = 3
_SPLIT_SEED = 0

STATISTICS = ("mean", "std", "p_value")


@dataclass(frozen=True)
class Described:
    """R runs of a method on T test and n training examples; P = T n pairs.

    All but values and verdicts has mean 0 and length 1 over its last axes, which makes a correlation a product; what does not
    vary is all 0. values: (R, T, n) float64 as scored. scaled, ranked: (R, T, n), values and ranks over all pairs of a run.
    ranked_by_test: (R, T, n), ranks over each test example's pairs.
    scaled_statistics, ranked_statistics: by name (R + 1, P), and their ranks, over all runs and then without each run in turn.
    The p-value of the t-test is ranked by minus |mean| / std, which orders pairs as it does, and has no scaled values.
    ranked_mean_by_test: (R + 1, T, n), ranks of the mean over each test example's pairs.
    verdicts: (R + 1, P) int8: 1 helpful, -1 harmful, 0 not told from noise (q-value not below the level).
    halves: by name (2 SPLITS, P) ranks of the statistics of halves of the runs, each two disjoint; None for too few runs.
    """

    values: np.ndarray
    scaled: np.ndarray
    ranked: np.ndarray
    ranked_by_test: np.ndarray
    scaled_statistics: dict[str, np.ndarray]
    ranked_statistics: dict[str, np.ndarray]
    ranked_mean_by_test: np.ndarray
    verdicts: np.ndarray
    halves: dict[str, np.ndarray] | None

    @property
    def num_tests(self) -> int:
        """T."""
        return self.values.shape[1]


def describe(sample: np.ndarray) -> Described:
    """Describe a sample (R, n, T) of at least three runs; a deviation without one run needs two others."""
    values = np.ascontiguousarray(sample.swapaxes(1, 2), dtype=np.float64)
    flat = values.reshape(len(values), -1)
    found = list(_statistics_and_without_each(flat))
    statistics = {name: np.stack([each[name] for each in found]) for name in STATISTICS}
    counts = [len(flat)] + [len(flat) - 1] * len(flat)
    return Described(
        values=values,
        scaled=_of_length_one(flat).reshape(values.shape),
        ranked=_ranked(flat).reshape(values.shape),
        ranked_by_test=_of_length_one(ranks_of_rows(values)),
        scaled_statistics={name: _of_length_one(statistics[name]) for name in ("mean", "std")},
        ranked_statistics={name: _ranked(array) for name, array in statistics.items()},
        ranked_mean_by_test=_of_length_one(ranks_of_rows(statistics["mean"].reshape(-1, *values.shape[1:]))),
        verdicts=np.stack([_verdicts(each, count) for each, count in zip(found, counts, strict=True)]),
        halves=_halves(flat),
    )


def _statistics_and_without_each(flat: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Statistics over all runs (R, P), then without each run, from sums over all of them."""
    count = len(flat)
    mean, std = mean_and_std(flat)
    yield _named(mean, std)
    # Differences from the mean are exactly 0 where all runs agree, and so is what is made of them.
    away = flat - mean
    squares = (away**2).sum(axis=0)
    for of_run in away:
        variance = (squares - of_run**2 * (count / (count - 1))) / (count - 2)
        yield _named(mean - of_run / (count - 1), np.sqrt(np.maximum(variance, 0.0)))


def _named(mean: np.ndarray, std: np.ndarray) -> dict[str, np.ndarray]:
    return {"mean": mean, "std": std, "p_value": -signal_to_noise(mean, std)}


def _ranked(rows: np.ndarray) -> np.ndarray:
    return _of_length_one(np.stack([ranks(row) for row in rows]))


def _of_length_one(rows: np.ndarray) -> np.ndarray:
    """Rows (..., n) with mean 0 and length 1; 0 for a row that does not vary."""
    low, high = rows.min(axis=-1, keepdims=True), rows.max(axis=-1, keepdims=True)
    varies = low < high
    # Brought to the scale of 1 first, so that squares of the smallest scores do not vanish.
    scaled = rows / np.where(varies, np.maximum(-low, high), 1.0)
    scaled -= scaled.mean(axis=-1, keepdims=True)
    squares = np.einsum("...n,...n->...", scaled, scaled)[..., None]
    scaled *= np.where(varies, 1 / np.sqrt(np.where(varies, squares, 1.0)), 0.0)
    return scaled


def _verdicts(statistics: dict[str, np.ndarray], num_runs: int) -> np.ndarray:
    """Signs of the means of pairs with a Benjamini-Hochberg q-value below the level, 0 for the others: (P,) int8.

    The q-values are below it down to the last pair, by |mean| / std, whose p-value is below its place's share of the level.
    """
    ratio = -statistics["p_value"]
    descending = np.sort(ratio)[::-1]
    below = np.flatnonzero(descending > _needed_ratios(ratio.size, num_runs))
    if not below.size:
        return np.zeros(ratio.size, dtype=np.int8)
    return (np.sign(statistics["mean"]) * (ratio >= descending[below[-1]])).astype(np.int8)


@lru_cache(maxsize=8)
def _needed_ratios(num_pairs: int, num_runs: int) -> np.ndarray:
    """|mean| / std at which the two-sided p-value of the t-test is the level times place / num_pairs, for each place."""
    shares = np.arange(1, num_pairs + 1) / num_pairs
    return -special.stdtrit(num_runs - 1, SIGNIFICANCE_LEVEL * shares / 2) / np.sqrt(num_runs)


def split_runs(num_runs: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions of the runs in two disjoint halves of equal size, SPLITS times, the same for all methods."""
    generator, half = np.random.default_rng(_SPLIT_SEED), num_runs // 2
    orders = (generator.permutation(num_runs) for _ in range(SPLITS))
    return [(order[:half], order[half : 2 * half]) for order in orders]


def _halves(flat: np.ndarray) -> dict[str, np.ndarray] | None:
    if len(flat) // 2 < FEWEST_IN_HALF:
        return None
    parts: Sequence[np.ndarray] = [half for both in split_runs(len(flat)) for half in both]
    found = [_named(*mean_and_std(flat[part])) for part in parts]
    return {name: _ranked(np.stack([each[name] for each in found])) for name in STATISTICS}
