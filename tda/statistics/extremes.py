"""Which test examples are worth a picture, and which training examples helped and harmed them most."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tda.statistics.pair_statistics import SIGNIFICANCE_LEVEL, PairStatistics

SHOWN = 5


def majority(predicted: np.ndarray) -> np.ndarray:
    """The label (n_test, ...) that most seeds predict, from labels (seeds, n_test, ...); the smallest one on a tie."""
    ascending = np.sort(predicted, axis=0)
    chosen, votes, most_votes = ascending[0], np.ones(ascending.shape[1:], int), np.ones(ascending.shape[1:], int)
    for earlier, label in pairwise(ascending):
        votes = np.where(label == earlier, votes + 1, 1)
        chosen = np.where(votes > most_votes, label, chosen)
        most_votes = np.maximum(votes, most_votes)
    return chosen


def choose_examples(methods: Sequence[PairStatistics], wrong: np.ndarray) -> dict[int, str]:
    """Positions of the test examples worth a picture, each with the reason why it was chosen, in words.

    They are the most and the least reliably attributed one, and one that is wrong.
    Reliable means a large share of training examples with q below the significance level, averaged over the methods; on
    a tie, a large mean |t|. Of the misclassified ones (`wrong`, (n_test,) bool) the most reliable is taken. Where several are
    equal the first is taken. Every position appears once.
    """
    share = np.mean([(method.q_value < SIGNIFICANCE_LEVEL).mean(axis=0) for method in methods], axis=0)
    size = np.mean([np.sqrt(method.num_seeds) * method.signal_to_noise.mean(axis=0) for method in methods], axis=0)
    most_reliable_first = np.lexsort((np.arange(len(share)), -size, -share))
    least_reliable_first = np.lexsort((np.arange(len(share)), size, share))
    candidates = (
        (most_reliable_first, "the most reliably explained test example"),
        (least_reliable_first, "the least reliably explained test example"),
        (most_reliable_first[wrong[most_reliable_first]], "the most reliably explained one of those that most seeds misread"),
    )
    reasons: dict[int, list[str]] = {}
    for positions, reason in candidates:
        for position in positions[:1]:
            reasons.setdefault(int(position), []).append(reason)
    return {position: ", and ".join(words) for position, words in reasons.items()}


def extreme_examples(mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the up to five most helpful (mean > 0) and most harmful (mean < 0) training examples, extremes first.

    mean: (n_train,), positive = helpful. Of equals the first comes first.
    """
    helpful, harmful = np.argsort(-mean, kind="stable")[:SHOWN], np.argsort(mean, kind="stable")[:SHOWN]
    return helpful[mean[helpful] > 0], harmful[mean[harmful] < 0]
