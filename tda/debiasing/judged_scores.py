"""Rows of a table that says what scores are good for: a metric of each score, of one seed and of the mean over seeds."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tda.statistics.area_under_curve import area_under_curve
from tda.statistics.detection import (
    average_precision,
    overlap_by_chance,
    overlaps,
    precision_at_count,
    share_alike,
    share_alike_by_chance,
)
from tda.statistics.intervals import Estimate, jackknife, jackknifed, over_seeds

ONE_SEED, ENSEMBLE = "one", "mean"
_CORRELATIONS = ("randomised", "randomised_same_class")

Row = dict[str, object]
# What a metric makes of one score: of n suspicions, or of (n_train, n_test) scores.
Merit = Callable[[np.ndarray], float]


def wrong_label_metrics(wrong: np.ndarray) -> dict[str, tuple[Merit, float]]:
    """By name what is made of suspicions (n,), with what guessing would have; wrong: (n,) bool, of both kinds."""
    share = float(wrong.mean())
    return {
        "wrong_labels_auc": (lambda values: float(area_under_curve(values, wrong)), 0.5),
        "wrong_labels_average_precision": (lambda values: average_precision(values, wrong), share),
        "wrong_labels_precision": (lambda values: precision_at_count(values, wrong), share),
    }


def suspicion_rows(suspicions: Mapping[str, np.ndarray], wrong: np.ndarray, compare_with: str) -> list[Row]:
    """Rows of how well suspicions, name -> (seeds, n), find the wrong labels, and how much better than one of them.

    wrong: (n,) bool. Of one seed: the mean over seeds. Of the mean: of the suspicions' mean over seeds. The difference from
    `compare_with` is paired by seed, and missing where that is not among them.
    """
    rows, other = [], suspicions.get(compare_with)
    for metric, (merit, chance) in wrong_label_metrics(wrong).items():
        for name, values in suspicions.items():
            rows += _both(metric, name, values, merit, chance, None if name == compare_with else other)
    return rows


def _both(metric: str, name: str, values: np.ndarray, merit: Merit, chance: float, other: np.ndarray | None) -> list[Row]:
    of_seeds = over_seeds(np.array([merit(of_seed) for of_seed in values]))
    of_mean = jackknife(values, merit)
    distances: list[Estimate | None] = [None, None]
    if other is not None:
        pairs = np.stack([values, other], axis=1)

        def apart(pair: np.ndarray) -> float:
            return merit(pair[0]) - merit(pair[1])

        distances = [over_seeds(np.array([apart(pair) for pair in pairs])), jackknife(pairs, apart)]
    return [
        row(metric, name, seeds, found, chance, distance)
        for seeds, found, distance in zip((ONE_SEED, ENSEMBLE), (of_seeds, of_mean), distances, strict=True)
    ]


def row(metric: str, score: str, seeds: str, found: Estimate, chance: float, distance: Estimate | None = None) -> Row:
    """A row of the table: value with its interval, what guessing has, and the distance from another score with its own.

    An interval ends where a share, or a correlation, does.
    """
    missing = Estimate(np.nan, np.nan, np.nan)
    least = -1.0 if metric in _CORRELATIONS else 0.0
    found = Estimate(found.value, *(float(np.clip(end, least, 1)) for end in (found.low, found.high)))
    apart = (distance or missing).columns("difference", "difference_low", "difference_high")
    return {"metric": metric, "score": score, "seeds": seeds} | found.columns("value") | {"chance": chance} | apart


def alike_rows(
    metric: str, scores: Mapping[str, np.ndarray], count: int, train_kinds: np.ndarray, test_kinds: np.ndarray
) -> list[Row]:
    """Rows of how many of the `count` highest training examples are of the test example's kind (class, group, source).

    scores: name -> (seeds, n_train, n_test), positive = helpful or alike.
    """

    def merit(one: np.ndarray) -> float:
        return share_alike(one, count, train_kinds, test_kinds)

    chance = share_alike_by_chance(train_kinds, test_kinds)
    return [found for name, values in scores.items() for found in _both(metric, name, values, merit, chance, None)]


def overlap_rows(scores: Mapping[str, np.ndarray], count: int) -> list[Row]:
    """Rows of the mean Jaccard index of two seeds' `count` highest, with the jackknife's interval over seeds.

    scores: name -> (seeds, n_train, n_test), of two seeds at least; the ends are NaN for two.
    """
    return [
        row("overlap", name, ONE_SEED, mean_of_pairs(overlaps(values, count)), overlap_by_chance(values.shape[1], count))
        for name, values in scores.items()
    ]


def mean_of_pairs(pairs: np.ndarray) -> Estimate:
    """The mean of a symmetric matrix (seeds, seeds) off its diagonal; each seed in turn is left out for the interval."""
    count = len(pairs)
    off = pairs - np.diag(np.diag(pairs))
    value = off.sum() / (count * (count - 1))
    if count < 3:
        return Estimate(float(value), np.nan, np.nan)
    without = (off.sum() - 2 * off.sum(axis=1)) / ((count - 1) * (count - 2))
    return jackknifed(float(value), without, low=0.0, high=1.0)


def best_of(rows: Sequence[Row], metric: str) -> Row:
    """The row of a metric with the highest value of the mean over seeds."""
    return max((one for one in rows if one["metric"] == metric and one["seeds"] == ENSEMBLE), key=lambda one: one["value"])
