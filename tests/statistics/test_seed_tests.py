"""Tests over seeds: closed forms and naive sums, exactness under their assumptions, and verdicts of parts against all."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from tda.statistics.error_rates import LAWS, error_rates
from tda.statistics.seed_tests import TESTS, by_bayesian_bootstrap, by_sign_flip, by_signed_rank, by_t_test
from tda.statistics.seeds_needed import parts, verdict_rows


def sample_of(count: int, pairs: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.4, 1, size=(count, pairs))


def test_t_test_is_that_of_scipy():
    sample = sample_of(7, 40)
    np.testing.assert_allclose(by_t_test(sample), stats.ttest_1samp(sample, 0).pvalue, rtol=1e-10)


def test_sign_flips_are_all_ways_counted():
    sample = sample_of(6, 9)
    flipped = [np.abs((np.array(signs)[:, None] * sample).mean(axis=0)) for signs in product((1, -1), repeat=6)]
    expected = (np.stack(flipped) >= np.abs(sample.mean(axis=0)) - 1e-12).mean(axis=0)
    np.testing.assert_allclose(by_sign_flip(sample), expected)


def test_signed_ranks_are_all_ways_counted():
    sample = sample_of(6, 9)
    ranks = np.abs(sample).argsort(axis=0).argsort(axis=0) + 1
    sums = np.stack([(ranks * (np.array(signs)[:, None] > 0)).sum(axis=0) for signs in product((1, -1), repeat=6)])
    observed = (ranks * (sample > 0)).sum(axis=0)
    expected = np.minimum(1, 2 * np.minimum((sums <= observed).mean(axis=0), (sums >= observed).mean(axis=0)))
    np.testing.assert_allclose(by_signed_rank(sample), expected)


def test_five_seeds_can_never_be_enough_for_ranks_and_flips():
    certain = 10 + np.random.default_rng(0).normal(size=(5, 3))
    assert np.allclose(by_signed_rank(certain), 0.0625) and np.allclose(by_sign_flip(certain), 0.0625)
    assert (by_t_test(certain) < 1e-3).all() and (by_bayesian_bootstrap(certain) == 0).all()


def test_the_bayesian_bootstrap_of_two_seeds_in_closed_form():
    """The mean w a + (1 - w) b with w uniform is positive where w > b / (b - a), for a = -1 and b = 3."""
    sample = np.array([[-1.0, 2.0], [3.0, 5.0]])
    np.testing.assert_allclose(by_bayesian_bootstrap(sample), [2 * 0.25, 0], atol=0.02)


def test_a_pair_of_zeros_is_no_evidence():
    sample = np.zeros((6, 2))
    sample[:, 1] = sample_of(6, 1)[:, 0]
    assert all(test(sample)[0] == 1 for test in TESTS.values())


def test_one_less_half_of_the_t_test_s_p_is_the_posterior_probability_of_the_sign():
    sample = sample_of(5, 3, seed=1)
    mean, error = sample.mean(axis=0), sample.std(axis=0, ddof=1) / np.sqrt(5)
    posterior = stats.t(df=4, loc=mean, scale=error)
    seems = np.where(mean > 0, posterior.sf(0), posterior.cdf(0))
    np.testing.assert_allclose(1 - by_t_test(sample) / 2, seems)


def test_laws_have_mean_0_and_spread_1():
    for name, draw in LAWS.items():
        noise = draw(np.random.default_rng(1), (1000, 2000))
        if name == "cauchy":
            assert abs(np.median(noise)) < 0.01
        else:
            assert abs(noise.mean()) < 0.01 and noise.std() == pytest.approx(1, abs=0.05)


def test_error_rates_of_exact_tests_on_their_laws():
    rows = {(row["law"], row["seeds"], row["effect"], row["test"]): row["called_reliable"] for row in error_rates((10,), 800)}
    assert rows["normal", 10, 0.0, "t_test"] == pytest.approx(0.05, abs=0.02)
    for law in ("normal", "student_3", "contaminated", "cauchy"):
        assert rows[law, 10, 0.0, "sign_flip"] < 0.07 and rows[law, 10, 0.0, "signed_rank"] < 0.07
    power = 1 - stats.nct.cdf(stats.t.ppf(0.975, 9), 9, np.sqrt(10)) + stats.nct.cdf(-stats.t.ppf(0.975, 9), 9, np.sqrt(10))
    assert rows["normal", 10, 1.0, "t_test"] == pytest.approx(power, abs=0.05)


def test_parts_are_of_distinct_seeds_and_the_whole_comes_once():
    drawn = parts(12, 5, 8)
    assert len(drawn) == 8 and all(len(set(part.tolist())) == 5 for part in drawn)
    assert [part.tolist() for part in parts(12, 12, 8)] == [list(range(12))]


def test_verdicts_of_all_seeds_agree_with_themselves_and_more_seeds_find_more():
    effects = np.repeat([0.0, 1.0], 100)
    sample = effects + np.random.default_rng(3).normal(size=(20, 200))
    rows = {(row["test"], row["seeds"], row["verdict"]): row for row in verdict_rows(sample, (3, 10, 20), 6)}
    whole = rows["t_test", 20, "q"]
    assert whole["same"] == 1 and whole["found"] == 1 and whole["false"] == 0 and whole["draws"] == 1
    found = [rows["t_test", count, "q"]["found"] for count in (3, 10, 20)]
    assert found[0] < 0.2 < found[1] < found[2]
    naive = [(by_t_test(sample[chosen]) < 0.05).mean() for chosen in parts(20, 10, 6)]
    assert rows["t_test", 10, "p"]["called_reliable"] == pytest.approx(np.mean(naive))
    assert rows["signed_rank", 3, "p"]["called_reliable"] == 0 and np.isnan(rows["signed_rank", 3, "p"]["wrong_sign"])
