"""Correlations against scipy, and where they are undefined."""

import numpy as np
from scipy import stats

from tda.statistics.correlation import pearson, ranks_of_rows, spearman


def test_correlations_are_those_of_scipy():
    arrays = list(np.random.default_rng(0).normal(size=(4, 5, 7)) * np.array([1, 1e3, 1e-9, 1])[:, None, None])
    for correlate, reference in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        expected = [[reference(left.ravel(), right.ravel()).statistic for right in arrays] for left in arrays]
        np.testing.assert_allclose(correlate(arrays), expected, rtol=1e-12)


def test_ties_share_their_rank():
    left, right = np.array([1.0, 1, 2, 3, 3, 3]), np.array([0.0, 5, 5, 1, 9, 9])
    np.testing.assert_allclose(spearman([left, right])[0, 1], stats.spearmanr(left, right).statistic, rtol=1e-12)


def test_correlation_ignores_shift_and_scale():
    left = np.random.default_rng(0).normal(size=(4, 5))
    expected = [[1, 1, -1], [1, 1, -1], [-1, -1, 1]]
    np.testing.assert_allclose(pearson([left, 1e-200 * left, 3 - 1e200 * left]), expected, rtol=1e-12)


def test_a_constant_has_no_correlation_and_leaves_the_others_theirs():
    arrays = [np.array([1.0, 2, 4]), np.full(3, 0.1), np.array([3.0, 1, 2])]
    for correlate in (pearson, spearman):
        found = correlate(arrays)
        assert np.isnan(found[1]).all() and np.isnan(found[:, 1]).all()
        np.testing.assert_allclose(found[np.ix_([0, 2], [0, 2])], correlate(arrays[::2]), rtol=1e-12)


def test_ranks_of_rows_are_scipy_s():
    rows = np.random.default_rng(0).integers(0, 30, size=(3, 5, 12)).astype(float)
    rows[0] += np.random.default_rng(1).normal(size=(5, 12))
    np.testing.assert_array_equal(ranks_of_rows(rows), stats.rankdata(rows, axis=-1))
