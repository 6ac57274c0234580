"""Does reliability predict fidelity? Pairs, and test examples, by the t-test's verdict, judged by retraining on subsets."""

from collections.abc import Iterator

import numpy as np
from scipy.stats import rankdata

from tda.statistics.intervals import bootstrap_mean, bootstrap_spearman
from tda.statistics.linear_datamodeling_score import lds, lds_of_each, predictions
from tda.statistics.pair_statistics import SIGNIFICANCE_LEVEL, PairStatistics
from tda.statistics.retraining_effect import mean_with_minus_without

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
        effect_of_pairs = bootstrap_mean(correlations, draws=999)
        described = {"method": statistics.method, "pairs": name, "share": pairs.mean()}
        described |= found.columns("lds")
        yield described | effect_of_pairs.columns("correlation_with_effect", "correlation_low", "correlation_high")


def _correlations_with_effect(mean: np.ndarray, effect: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Spearman's correlation over each test example's chosen pairs; where they are too few or do not vary there is none."""
    found = []
    for score, true, chosen in zip(mean.T, effect.T, pairs.T, strict=True):
        if chosen.sum() >= _FEWEST_PAIRS and np.ptp(score[chosen]) > 0 and np.ptp(true[chosen]) > 0:
            found.append(np.corrcoef(rankdata(score[chosen]), rankdata(true[chosen]))[0, 1])
    return np.array(found)


def rows_of_test_examples(statistics: PairStatistics, masks: np.ndarray, margins: np.ndarray) -> Iterator[dict]:
    """Rows for the quarters of test examples by the share of their pairs that are reliable, fewest first.

    lds, low, high: mean over the quarter's test examples of the LDS of the mean score over all seeds, with its interval over
    subsets and test examples. correlation, correlation_low, correlation_high: Spearman's correlation, over all test
    examples, of that share with the LDS, the same in all rows of a method, with its bootstrap interval over test examples.
    """
    share = (statistics.q_value < SIGNIFICANCE_LEVEL).mean(axis=0)
    predicted = predictions(masks, statistics.mean)
    each = lds_of_each(predicted, margins)
    correlation = bootstrap_spearman(share, each)
    # Equal shares are split in the order of the test examples, in which classes take turns.
    order = np.argsort(share, kind="stable")
    for number, part in enumerate(np.array_split(order, PARTS), start=1):
        found = lds([predicted[:, part]], margins[:, part])
        described = {"method": statistics.method, "quarter": number, "share_reliable": share[part].mean()}
        described |= found.columns("lds")
        yield described | correlation.columns("correlation", "correlation_low", "correlation_high")
