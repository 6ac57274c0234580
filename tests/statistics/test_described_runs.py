"""What is made of the runs of a method, with each run left out, against what is made of the others alone."""

import numpy as np
import pytest
from scipy import stats

from tda.statistics.described_runs import SPLITS, describe, split_runs
from tda.statistics.pair_statistics import benjamini_hochberg, mean_and_std, signal_to_noise, t_test

RUNS, TRAIN, TESTS = 6, 7, 11


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    """(R, n, T) scores: pairs of every reliability, equal ones, pairs without any spread, and pairs of nothing but 0."""
    generator = np.random.default_rng(0)
    drawn = 3 * generator.normal(size=(TRAIN, TESTS)) + generator.normal(size=(RUNS, TRAIN, TESTS))
    drawn[:, 0, :3], drawn[:, 1, :3], drawn[:, 2, 4] = 0.1, 0.0, drawn[:, 2, 5]
    return drawn


def left_out(sample: np.ndarray) -> list[np.ndarray]:
    """All runs, then all but each in turn, as (R, T, n)."""
    whole = sample.swapaxes(1, 2)
    return [whole, *(np.delete(whole, run, axis=0) for run in range(len(whole)))]


def of_length_one(values: np.ndarray) -> np.ndarray:
    centred = values.ravel() - values.mean()
    return centred / np.sqrt((centred**2).sum())


def test_values_and_ranks_of_runs(sample: np.ndarray):
    found = describe(sample)
    np.testing.assert_array_equal(found.values, sample.swapaxes(1, 2))
    for run in range(RUNS):
        values = found.values[run]
        np.testing.assert_allclose(found.scaled[run].ravel(), of_length_one(values), atol=1e-14)
        np.testing.assert_allclose(found.ranked[run].ravel(), of_length_one(stats.rankdata(values)), atol=1e-14)
        for test in range(TESTS):
            expected = of_length_one(stats.rankdata(values[test]))
            np.testing.assert_allclose(found.ranked_by_test[run, test], expected, atol=1e-14)
    assert found.num_tests == TESTS


def test_statistics_without_each_run_are_those_of_the_others(sample: np.ndarray):
    found = describe(sample)
    for row, others in enumerate(left_out(sample)):
        mean, std = mean_and_std(others)
        p_value = t_test(signal_to_noise(mean, std), len(others))
        for name, statistic in (("mean", mean), ("std", std), ("p_value", p_value)):
            expected = of_length_one(stats.rankdata(statistic.round(12)))
            np.testing.assert_allclose(found.ranked_statistics[name][row], expected, atol=1e-12)
        for name, statistic in (("mean", mean), ("std", std)):
            np.testing.assert_allclose(found.scaled_statistics[name][row], of_length_one(statistic), atol=1e-12)
        expected = [of_length_one(stats.rankdata(of_test.round(12))) for of_test in mean]
        np.testing.assert_allclose(found.ranked_mean_by_test[row], expected, atol=1e-12)


def test_verdicts_are_the_signs_of_pairs_whose_q_value_is_below_the_level(sample: np.ndarray):
    found = describe(sample)
    for row, others in enumerate(left_out(sample)):
        mean, std = mean_and_std(others)
        q_value = benjamini_hochberg(t_test(signal_to_noise(mean, std), len(others)))
        np.testing.assert_array_equal(found.verdicts[row], (np.sign(mean) * (q_value < 0.05)).ravel())
    assert set(found.verdicts[0]) == {-1, 0, 1}


def test_noise_alone_is_never_told():
    assert not describe(np.random.default_rng(0).normal(size=(5, 30, 40))).verdicts.any()


def test_halves_are_of_disjoint_runs_of_equal_number(sample: np.ndarray):
    found = describe(sample)
    parts = [half for both in split_runs(RUNS) for half in both]
    assert len(parts) == 2 * SPLITS == len(found.halves["mean"])
    for row, part in enumerate(parts):
        mean, std = mean_and_std(sample.swapaxes(1, 2)[part])
        np.testing.assert_allclose(found.halves["mean"][row], of_length_one(stats.rankdata(mean)), atol=1e-12)
        np.testing.assert_allclose(found.halves["std"][row], of_length_one(stats.rankdata(std)), atol=1e-12)
    assert [len(half) for both in split_runs(11) for half in both] == [5] * 2 * SPLITS
    assert describe(sample[:5]).halves is None


def test_the_smallest_scores_lose_nothing(sample: np.ndarray):
    plain, small = describe(sample), describe(sample * 1e-160)
    np.testing.assert_allclose(small.scaled, plain.scaled, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(small.ranked, plain.ranked)
