"""Metrics of detection against naive loops and against scikit-learn's definitions written out."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from tda.statistics.detection import (
    average_precision,
    mean_rank_correlation,
    mean_rank_correlation_of_kind,
    overlap_by_chance,
    overlaps,
    precision_at_count,
    share_alike,
    share_alike_by_chance,
)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(3)


def test_average_precision_is_the_mean_precision_at_the_positives(generator: np.random.Generator):
    values, positive = generator.normal(size=40), generator.random(40) < 0.3
    expected = np.mean([positive[values >= values[place]].mean() for place in np.flatnonzero(positive)])
    assert average_precision(values, positive) == pytest.approx(expected)
    tied = np.round(values)
    expected = np.mean([positive[tied >= tied[place]].mean() for place in np.flatnonzero(positive)])
    assert average_precision(tied, positive) == pytest.approx(expected)


def test_ends_of_average_precision():
    positive = np.array([True, True, False, False, False])
    assert average_precision(np.array([5.0, 4, 3, 2, 1]), positive) == 1
    assert average_precision(np.ones(5), positive) == pytest.approx(0.4)
    assert np.isnan(average_precision(np.ones(5), np.zeros(5, dtype=bool)))


def test_precision_counts_ties_at_the_border_by_their_share():
    positive = np.array([True, True, False, False, False, False])
    assert precision_at_count(np.array([6.0, 1, 5, 4, 3, 2]), positive) == 0.5
    # The first is taken, and one of five equal ones, of which one is positive.
    assert precision_at_count(np.array([1.0, 0, 0, 0, 0, 0]), positive) == pytest.approx((1 + 1 / 5) / 2)
    assert precision_at_count(np.zeros(6), positive) == pytest.approx(1 / 3)


def test_share_of_the_highest_that_are_alike(generator: np.random.Generator):
    scores, train, test = generator.normal(size=(12, 5)), generator.integers(3, size=12), generator.integers(3, size=5)
    naive = [train[place] == test[t] for t in range(5) for place in sorted(range(12), key=lambda i, t=t: -scores[i, t])[:4]]
    assert share_alike(scores, 4, train, test) == pytest.approx(np.mean(naive))
    assert share_alike(scores, 12, train, test) == pytest.approx(share_alike_by_chance(train, test))


def test_overlaps_are_jaccard_indices(generator: np.random.Generator):
    scores = generator.normal(size=(3, 10, 4))
    found = overlaps(scores, 3)
    for left in range(3):
        for right in range(3):
            sets = [[set(np.argsort(-scores[seed, :, t])[:3]) for t in range(4)] for seed in (left, right)]
            expected = np.mean([len(a & b) / len(a | b) for a, b in zip(*sets, strict=True)])
            assert found[left, right] == pytest.approx(expected)
    assert overlap_by_chance(10, 10) == 1 and overlap_by_chance(100, 10) == pytest.approx(1 / 19)


def test_rank_correlations_are_spearmans(generator: np.random.Generator):
    left, right = generator.normal(size=(2, 9, 4))
    expected = np.mean([spearmanr(left[:, t], right[:, t]).statistic for t in range(4)])
    assert mean_rank_correlation(left, right) == pytest.approx(expected)
    constant = left.copy()
    constant[:, 0] = 1
    assert mean_rank_correlation(left, left) == pytest.approx(1)
    assert mean_rank_correlation(constant, left) == pytest.approx(0.75)


def test_correlations_within_a_class_do_not_count_the_class(generator: np.random.Generator):
    train, test = np.repeat([0, 1], 200), np.array([0, 0, 1])
    noise = generator.normal(size=(2, 400, 3))
    left, right = noise + 10 * (train[:, None] == test)
    assert mean_rank_correlation(left, right) > 0.7
    assert abs(mean_rank_correlation_of_kind(left, right, train, test)) < 0.15
    expected = np.mean([spearmanr(left[train == k, t], right[train == k, t]).statistic for t, k in enumerate(test)])
    assert mean_rank_correlation_of_kind(left, right, train, test) == pytest.approx(expected)
    assert np.isnan(mean_rank_correlation_of_kind(left, right, train, np.array([7, 7, 7])))
