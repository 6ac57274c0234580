"""Does reliability predict fidelity? Pairs, and test examples, by the t-test's verdict, judged by retraining on subsets."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from scipy.stats import bootstrap, rankdata, spearmanr

from tda.figures.analysis import method_title
from tda.methods.retraining_regression import mean_with_minus_without
from tda.statistics.linear_datamodeling_score import lds, lds_of_each, predictions
from tda.statistics.pair_statistics import SIGNIFICANCE_LEVEL, PairStatistics

PARTS = 4
"""Groups of test examples, from those with the fewest reliable pairs to those with the most."""

_RANDOM_SEED = 0
_FEWEST_PAIRS = 3


def chosen_pairs(statistics: PairStatistics) -> dict[str, np.ndarray]:
    """Which pairs (n_train, n_test) bool are judged: all; reliable (q below the level); the others.

    And, for comparison, as many as are reliable drawn at random, and as many with the largest absolute mean score of all.
    """
    reliable = statistics.q_value < SIGNIFICANCE_LEVEL
    shuffled = np.random.default_rng(_RANDOM_SEED).permutation(reliable.ravel()).reshape(reliable.shape)
    order = np.argsort(-np.abs(statistics.mean), axis=None, kind="stable")
    largest = np.zeros(reliable.size, dtype=bool)
    largest[order[: reliable.sum()]] = True
    return {
        "all": np.ones_like(reliable),
        "reliable": reliable,
        "others": ~reliable,
        "as many random pairs": shuffled,
        "as many largest pairs": largest.reshape(reliable.shape),
    }


def rows_of_pairs(statistics: PairStatistics, masks: np.ndarray, margins: np.ndarray) -> Iterator[dict]:
    """A row for each choice of pairs; masks (S, n_train), margins (S, n_test) of retrained models.

    lds, low, high: of the mean score over all seeds, with all other pairs set to 0. correlation_with_effect: Spearman's
    correlation of the score with the mean margin of retrainings with the example minus that of those without, over a test
    example's chosen pairs, averaged over test examples, with its 95 % bootstrap interval over test examples.
    """
    effect = mean_with_minus_without(masks, margins)
    for name, pairs in chosen_pairs(statistics).items():
        found = lds([predictions(masks, np.where(pairs, statistics.mean, 0.0))], margins)
        correlations = _correlations_with_effect(statistics.mean, effect, pairs)
        mean, low, high = _mean_and_interval(correlations)
        yield {
            "method": statistics.method,
            "pairs": name,
            "share": pairs.mean(),
            "lds": found.mean,
            "low": found.low,
            "high": found.high,
            "correlation_with_effect": mean,
            "correlation_low": low,
            "correlation_high": high,
        }


def _correlations_with_effect(mean: np.ndarray, effect: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Spearman's correlation over each test example's chosen pairs; where they are too few or do not vary there is none."""
    found = []
    for score, true, chosen in zip(mean.T, effect.T, pairs.T, strict=True):
        if chosen.sum() >= _FEWEST_PAIRS and np.ptp(score[chosen]) > 0 and np.ptp(true[chosen]) > 0:
            found.append(np.corrcoef(rankdata(score[chosen]), rankdata(true[chosen]))[0, 1])
    return np.array(found)


def _mean_and_interval(values: np.ndarray) -> tuple[float, float, float]:
    if len(values) < 2:
        return (float(values.mean()) if len(values) else np.nan), np.nan, np.nan
    interval = bootstrap((values,), np.mean, method="percentile", n_resamples=999, rng=np.random.default_rng(0))
    return float(values.mean()), float(interval.confidence_interval.low), float(interval.confidence_interval.high)


def rows_of_test_examples(statistics: PairStatistics, masks: np.ndarray, margins: np.ndarray) -> Iterator[dict]:
    """Rows for the quarters of test examples by the share of their pairs that are reliable, fewest first.

    lds, low, high: mean over the quarter's test examples of the LDS of the mean score over all seeds, with its interval over
    subsets and test examples. correlation, correlation_low, correlation_high: Spearman's correlation, over all test
    examples, of that share with the LDS, the same in all rows of a method, with its bootstrap interval over test examples.
    """
    share = (statistics.q_value < SIGNIFICANCE_LEVEL).mean(axis=0)
    predicted = predictions(masks, statistics.mean)
    each = lds_of_each(predicted, margins)
    correlation, low, high = _correlation_and_interval(share, each)
    # Equal shares are split in the order of the test examples, in which classes take turns.
    order = np.argsort(share, kind="stable")
    for number, part in enumerate(np.array_split(order, PARTS), start=1):
        found = lds([predicted[:, part]], margins[:, part])
        yield {
            "method": statistics.method,
            "quarter": number,
            "share_reliable": share[part].mean(),
            "lds": found.mean,
            "low": found.low,
            "high": found.high,
            "correlation": correlation,
            "correlation_low": low,
            "correlation_high": high,
        }


def _correlation_and_interval(left: np.ndarray, right: np.ndarray) -> tuple[float, float, float]:
    """Spearman's correlation with its 95 % bootstrap interval; NaN where either is constant."""
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return np.nan, np.nan, np.nan
    generator = np.random.default_rng(_RANDOM_SEED)
    drawn = (generator.integers(len(left), size=len(left)) for _ in range(999))
    found = [spearmanr(left[one], right[one]).statistic for one in drawn if np.ptp(left[one]) and np.ptp(right[one])]
    low, high = np.quantile(found, (0.025, 0.975))
    return float(spearmanr(left, right).statistic), float(low), float(high)


def draw_reliability(pairs: pd.DataFrame, tests: pd.DataFrame) -> Figure:
    """LDS of reliable pairs, of the others and of the controls; beside it, of test examples by share of reliable pairs."""
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    methods = list(dict.fromkeys(pairs["method"]))
    names = list(dict.fromkeys(pairs["pairs"]))
    for number, name in enumerate(names):
        rows = pairs[pairs["pairs"] == name].set_index("method").loc[methods]
        errors = np.stack((rows["lds"] - rows["low"], rows["high"] - rows["lds"])).clip(0)
        places = np.arange(len(methods)) + (number - (len(names) - 1) / 2) * 0.15
        left.errorbar(places, rows["lds"], errors, fmt="o", markersize=3, capsize=1.5, linewidth=1, label=name)
    left.set_xticks(range(len(methods)), [method_title(method) for method in methods], rotation=60, ha="right", fontsize=8)
    left.set(ylabel="linear datamodeling score", title="pairs, all others set to 0")
    left.legend(fontsize=7, frameon=False)
    right.set_prop_cycle(color=colormaps["tab20"].colors)
    for method, rows in tests.groupby("method", sort=False):
        errors = np.stack((rows["lds"] - rows["low"], rows["high"] - rows["lds"])).clip(0)
        label = method_title(method)
        right.errorbar(rows["share_reliable"], rows["lds"], errors, marker="o", markersize=3, capsize=1.5, label=label)
    right.set(xlabel="share of reliable pairs (q < 0.05)", title="test examples, in quarters")
    right.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    for panel in (left, right):
        panel.axhline(0, color="grey", linewidth=0.6)
    return figure
