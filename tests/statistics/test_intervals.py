"""Intervals against scipy, closed forms and loops, and where there is too little to tell."""

import numpy as np
import pytest
import torch
from scipy import stats

from tda.statistics.intervals import (
    Estimate,
    bootstrap_crossed,
    bootstrap_mean,
    bootstrap_spearman,
    jackknife,
    jackknifed,
    means_without_each,
    over_seeds,
    percentiles,
)


def draws_of(count: int, draws: int) -> np.ndarray:
    """Which of `count` values each draw of a bootstrap takes: (draws, count)."""
    generator = np.random.default_rng(0)
    return np.stack([generator.integers(count, size=count) for _ in range(draws)])


def has_no_interval(found: Estimate) -> bool:
    return bool(np.isnan(found.low) and np.isnan(found.high))


def test_an_estimate_names_its_columns():
    estimate = Estimate(2.0, 1.0, 4.0)
    assert estimate.columns("lds") == {"lds": 2.0, "low": 1.0, "high": 4.0}
    assert estimate.columns("area", "area_low", "area_high") == {"area": 2.0, "area_low": 1.0, "area_high": 4.0}


def test_over_seeds_is_students_interval():
    values = np.random.default_rng(0).normal(3, 2, size=7)
    found = over_seeds(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose((found.value, found.low, found.high), (values.mean(), *expected), rtol=1e-12)
    assert over_seeds(np.array([1, 2])).value == 1.5


def test_one_seed_has_no_interval():
    alone = over_seeds(np.array([1.5]))
    assert alone.value == 1.5 and has_no_interval(alone)
    alone = jackknife(np.ones((1, 3)), np.sum)
    assert alone.value == 3 and has_no_interval(alone)


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_the_jackknife_leaves_each_seed_out(kind: str):
    maps = np.random.default_rng(0).normal(size=(5, 2, 3))

    def merit(mean):
        return (mean**2).sum()

    found = jackknife(torch.from_numpy(maps) if kind == "tensor" else maps, merit)
    without = np.array([merit(np.delete(maps, seed, axis=0).mean(axis=0)) for seed in range(5)])
    error = np.sqrt(4 / 5 * ((without - without.mean()) ** 2).sum())
    half = stats.t.ppf(0.975, 4) * error
    value = merit(maps.mean(axis=0))
    np.testing.assert_allclose((found.value, found.low, found.high), (value, value - half, value + half), rtol=1e-12)


def test_the_jackknife_of_a_plain_mean_is_students_interval():
    values = torch.tensor([1.0, 2.0, 4.0, 3.0], dtype=torch.float64)
    plain, left_out = over_seeds(values.numpy()), jackknife(values, lambda mean: mean)
    assert plain.value == left_out.value == 2.5 and plain.low < 2.5 < plain.high
    np.testing.assert_allclose((left_out.low, left_out.high), (plain.low, plain.high), rtol=1e-12)


def test_bootstrap_mean_is_quantiles_of_the_means_of_redrawn_values():
    values = np.random.default_rng(1).exponential(size=12)
    found = bootstrap_mean(values, draws=400)
    means = values[np.random.default_rng(0).integers(12, size=(400, 12))].mean(axis=1)
    expected = np.quantile(means, (0.025, 0.975))
    np.testing.assert_allclose((found.value, found.low, found.high), (values.mean(), *expected), rtol=1e-10)


def test_bootstrap_mean_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    found = [bootstrap_mean(generator.normal(2, 1, size=40), draws=300) for _ in range(300)]
    # 300 intervals of 95 %, a little less for 40 values: the standard deviation of the share is 1.3 %.
    assert 0.89 < np.mean([each.low < 2 < each.high for each in found]) < 0.99


def test_bootstrap_mean_of_equal_values_one_or_none():
    same = bootstrap_mean(np.full(5, 0.25))
    assert (same.value, same.low, same.high) == (0.25, 0.25, 0.25)
    alone, none = bootstrap_mean(np.array([0.5])), bootstrap_mean(np.array([]))
    assert alone.value == 0.5 and has_no_interval(alone)
    assert np.isnan(none.value) and has_no_interval(none)


def test_bootstrap_spearman_is_quantiles_of_the_correlations_of_redrawn_pairs():
    generator = np.random.default_rng(2)
    left = generator.integers(0, 5, 15).astype(float)
    right = left + generator.normal(size=15)
    found = bootstrap_spearman(left, right, draws=200)
    each = [stats.spearmanr(left[draw], right[draw]).statistic for draw in draws_of(15, 200)]
    expected = np.quantile(each, (0.025, 0.975))
    assert found.value == pytest.approx(stats.spearmanr(left, right).statistic, rel=1e-12)
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-10)
    assert found.low < found.value < found.high


def test_bootstrap_spearman_leaves_out_draws_that_do_not_vary():
    left, right = np.array([0.0, 0, 0, 1]), np.array([1.0, 2, 3, 4])
    found = bootstrap_spearman(left, right, draws=100)
    varied = [draw for draw in draws_of(4, 100) if len(set(left[draw])) > 1 and len(set(right[draw])) > 1]
    assert 0 < len(varied) < 100
    expected = np.quantile([stats.spearmanr(left[draw], right[draw]).statistic for draw in varied], (0.025, 0.975))
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-10)


def test_what_does_not_vary_has_no_correlation():
    varied = np.arange(4.0)
    for found in (bootstrap_spearman(np.ones(4), varied), bootstrap_spearman(varied, np.ones(4))):
        assert np.isnan(found.value) and has_no_interval(found)


def test_percentiles_are_those_of_the_draws_or_moved_onto_the_value():
    draws = np.arange(41.0)
    for centred, moved in ((False, 0.0), (True, 3.0 - 20.0)):
        found = percentiles(3.0, draws, centred)
        np.testing.assert_allclose((found.value, found.low, found.high), (3.0, 1.0 + moved, 39.0 + moved), rtol=1e-12)


def test_jackknife_over_one_sample_is_student_s_interval_of_a_mean():
    values = np.random.default_rng(0).normal(size=8)
    found, expected = jackknifed(values.mean(), means_without_each(values)), over_seeds(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_jackknife_over_two_samples_adds_their_variances_and_stays_within_the_ends():
    table = np.random.default_rng(0).normal(size=(5, 9))
    without = [means_without_each(table.mean(axis=axis)) for axis in (1, 0)]
    found = jackknifed(table.mean(), *without)
    variance = table.mean(axis=1).var(ddof=1) / 5 + table.mean(axis=0).var(ddof=1) / 9
    half = stats.t.ppf(0.975, 4) * np.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((table.mean() - half, table.mean() + half))
    bounded = jackknifed(table.mean(), *without, low=table.mean() - 1e-3, high=table.mean() + 1e-3)
    assert (bounded.low, bounded.high) == pytest.approx((table.mean() - 1e-3, table.mean() + 1e-3))
    alone = jackknifed(1.0, means_without_each(np.ones(1)), without[0])
    assert alone.value == 1 and np.isnan(alone.low) and np.isnan(alone.high)


def test_crossed_bootstrap_draws_rows_and_columns_apart():
    """Of additive effects its variance is that of both means, (n - 1) / n^2 of each sample's own."""
    generator = np.random.default_rng(3)
    rows, columns = generator.normal(size=30), 2 * generator.normal(size=20)
    found = bootstrap_crossed(rows[:, None] + columns, draws=20_000)
    assert found.value == pytest.approx(rows.mean() + columns.mean())
    deviation = np.sqrt(rows.var() / 30 + columns.var() / 20)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * deviation, rel=0.03)
    assert has_no_interval(bootstrap_crossed(np.ones((1, 5)))) and has_no_interval(bootstrap_crossed(np.ones((5, 1))))
    assert has_no_interval(bootstrap_crossed(np.arange(45.0).reshape(9, 5)))
    assert np.isnan(bootstrap_crossed(np.ones((0, 3))).value)
