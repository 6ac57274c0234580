"""Reliability against fidelity: rows against plain loops, on planted effects and noise."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from tda.statistics.pair_statistics import PairStatistics, benjamini_hochberg, mean_and_std, signal_to_noise, t_test
from tda.statistics.reliability import PARTS, chosen_pairs, rows_of_pairs, rows_of_test_examples
from tda.statistics.retraining_effect import mean_with_minus_without

TRAIN, TEST, SUBSETS, SEEDS = 40, 24, 30, 6


def planted(noise_of_tests: np.ndarray, seed: int = 0) -> tuple[PairStatistics, np.ndarray, np.ndarray]:
    """Scores that are the true effects plus noise of a size (n_test,), and margins that add the effects up."""
    generator = np.random.default_rng(seed)
    effects = generator.normal(size=(TRAIN, TEST))
    sample = effects + noise_of_tests * generator.normal(size=(SEEDS, TRAIN, TEST))
    mean, std = mean_and_std(sample)
    ratio = signal_to_noise(mean, std)
    p_value = t_test(ratio, SEEDS)
    statistics = PairStatistics("planted", SEEDS, 1, mean, std, ratio, p_value, benjamini_hochberg(p_value), p_value)
    masks = np.zeros((SUBSETS, TRAIN), dtype=bool)
    for row in masks:
        row[generator.permutation(TRAIN)[: TRAIN // 2]] = True
    return statistics, masks, masks @ effects


def plain_lds(masks: np.ndarray, scores: np.ndarray, margins: np.ndarray) -> np.ndarray:
    predicted = masks @ scores
    varies = np.ptp(predicted, axis=0) > 0
    return np.array([spearmanr(predicted[:, t], margins[:, t]).statistic if varies[t] else 0.0 for t in range(scores.shape[1])])


def test_rows_of_pairs_are_plain_formulas():
    statistics, masks, margins = planted(np.full(TEST, 1.0))
    rows = {row["pairs"]: row for row in rows_of_pairs(statistics, masks, margins)}
    reliable = statistics.q_value < 0.05
    assert 0.1 < reliable.mean() < 0.9
    for name, pairs in (("reliable", reliable), ("others", ~reliable), ("all", np.ones_like(reliable))):
        row = rows[name]
        assert row["share"] == pytest.approx(pairs.mean())
        assert row["lds"] == pytest.approx(plain_lds(masks, statistics.mean * pairs, margins).mean())
        assert row["low"] <= row["lds"] <= row["high"]
        effect = mean_with_minus_without(masks, margins)
        each = [spearmanr(statistics.mean[p, t], effect[p, t]).statistic for t, p in enumerate(pairs.T) if p.sum() >= 3]
        assert row["correlation_with_effect"] == pytest.approx(np.mean(each))
        assert row["correlation_low"] < row["correlation_with_effect"] < row["correlation_high"]
    for name in ("as many random pairs", "as many largest pairs"):
        assert rows[name]["share"] == pytest.approx(reliable.mean())
    assert rows["as many random pairs"]["lds"] < rows["reliable"]["lds"]


def test_largest_pairs_have_the_largest_mean_scores():
    statistics, *_ = planted(np.full(TEST, 1.0))
    chosen = chosen_pairs(statistics)
    largest, size = chosen["as many largest pairs"], np.abs(statistics.mean)
    assert largest.sum() == chosen["reliable"].sum() and size[largest].min() >= size[~largest].max()


def test_test_examples_with_less_noise_have_more_reliable_pairs_and_a_higher_lds():
    noise = np.repeat([0.2, 5.0], TEST // 2)
    statistics, masks, margins = planted(noise)
    rows = pd.DataFrame(rows_of_test_examples(statistics, masks, margins))
    assert list(rows["quarter"]) == list(range(1, PARTS + 1)) and rows["share_reliable"].is_monotonic_increasing
    share = (statistics.q_value < 0.05).mean(axis=0)
    each = plain_lds(masks, statistics.mean, margins)
    expected = [each[part].mean() for part in np.array_split(np.argsort(share, kind="stable"), PARTS)]
    assert rows["lds"].tolist() == pytest.approx(expected)
    assert rows["correlation"].nunique() == 1 and rows["correlation"][0] == pytest.approx(spearmanr(share, each).statistic)
    assert 0 < rows["correlation_low"][0] < rows["correlation"][0] < rows["correlation_high"][0]


def test_without_any_reliable_pair_there_is_no_correlation():
    statistics, masks, margins = planted(np.full(TEST, 1e6))
    rows = {row["pairs"]: row for row in rows_of_pairs(statistics, masks, margins)}
    assert rows["reliable"]["share"] == 0 and rows["reliable"]["lds"] == 0
    assert np.isnan(rows["reliable"]["correlation_with_effect"]) and np.isnan(rows["reliable"]["correlation_low"])
    assert all(np.isnan(row["correlation"]) for row in rows_of_test_examples(statistics, masks, margins))
