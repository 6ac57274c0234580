"""Statistics against scipy, naive loops, and what pure noise must give."""

import numpy as np
import pytest
from scipy import stats

from tda.scores.score_files import Scores
from tda.statistics.pair_statistics import (
    benjamini_hochberg,
    mean_and_std,
    pair_statistics,
    seed_scores,
    signal_to_noise,
    single_draw,
    t_test,
)
from tda.system.errors import UserError


def make_scores(values: np.ndarray) -> Scores:
    seeds, epochs, num_train, num_test = values.shape
    return Scores(
        "loo",
        list(range(seeds)),
        list(range(11, 11 + epochs)),
        np.arange(num_train),
        np.arange(num_test),
        values.astype(np.float32),
        {},
    )


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_every_statistic_equals_scipy_and_a_loop_over_pairs():
    scores = make_scores(noise(7, 5, 4, 6) + noise(4, 6, seed=1))
    found = pair_statistics(scores, 3)
    for row, column in np.ndindex(4, 6):
        sample = [np.mean(scores.values[seed, -3:, row, column].astype(float)) for seed in range(7)]
        mean, std = np.mean(sample), np.sqrt(sum((x - np.mean(sample)) ** 2 for x in sample) / 6)
        np.testing.assert_allclose(found.mean[row, column], mean, rtol=1e-12)
        np.testing.assert_allclose(found.std[row, column], std, rtol=1e-12)
        np.testing.assert_allclose(found.signal_to_noise[row, column], abs(mean) / std, rtol=1e-12)
        np.testing.assert_allclose(found.p_value[row, column], stats.ttest_1samp(sample, 0).pvalue, rtol=1e-9)
        np.testing.assert_allclose(found.single_draw_p_value[row, column], 2 * stats.norm.sf(abs(mean) / std), rtol=1e-9)
    assert (found.method, found.num_seeds, found.num_checkpoints) == ("loo", 7, 3)
    assert found.mean.dtype == found.p_value.dtype == found.q_value.dtype == np.float64


def test_q_values_follow_the_step_up_definition():
    p_value = np.random.default_rng(0).random((5, 8)) ** 3
    flat = sorted(p_value.ravel())
    expected = np.empty_like(p_value)
    for place in np.ndindex(p_value.shape):
        rank = flat.index(p_value[place]) + 1
        expected[place] = min(min(len(flat) / r * flat[r - 1] for r in range(rank, len(flat) + 1)), 1.0)
    np.testing.assert_allclose(benjamini_hochberg(p_value), expected, rtol=1e-12)


def test_pure_noise_is_significant_at_the_rate_of_the_level():
    shares, corrected, means, single_draw_means = [], [], [], []
    for seed in range(3):
        found = pair_statistics(make_scores(noise(10, 1, 30, 900, seed=seed)), 1)
        shares.append((found.p_value < 0.05).mean())
        corrected.append((found.q_value < 0.05).sum())
        means.append(found.p_value.mean())
        single_draw_means.append(found.single_draw_p_value.mean())
    assert all(0.045 < share < 0.055 for share in shares)
    assert max(corrected) <= 2
    assert np.mean(means) == pytest.approx(0.500, abs=0.003)
    assert np.mean(single_draw_means) == pytest.approx(0.789, abs=0.002)


@pytest.mark.parametrize("value, p_value", [(0.0, 1.0), (0.1, 0.0), (-1e-30, 0.0), (3e38, 0.0)])
def test_no_spread_over_seeds_gives_certainty_without_warning(value: float, p_value: float):
    found = pair_statistics(make_scores(np.full((10, 3, 2, 2), value)), 3)
    assert (found.std == 0).all()
    assert (found.p_value == p_value).all() and (found.single_draw_p_value == p_value).all()
    assert (found.q_value == p_value).all()
    assert (found.signal_to_noise == (0 if value == 0 else np.inf)).all()


def test_a_pair_without_spread_leaves_its_neighbours_alone():
    sample = noise(10, 2, 3)
    changed = sample.copy()
    changed[:, 0, 0] = 0.1
    before, after = (t_test(signal_to_noise(*mean_and_std(each)), 10) for each in (sample, changed))
    assert after[0, 0] == 0
    np.testing.assert_array_equal(before.ravel()[1:], after.ravel()[1:])


def test_the_last_checkpoints_are_averaged():
    values = np.zeros((3, 4, 1, 1))
    values[:, :, 0, 0] = [1, 2, 4, 8]
    scores = make_scores(values)
    assert [seed_scores(scores, k)[0, 0, 0] for k in (1, 2, 3, 4)] == [8, 6, pytest.approx(14 / 3), 3.75]


@pytest.mark.parametrize("num_checkpoints", [0, 3])
def test_a_number_of_checkpoints_that_is_not_stored_is_refused(num_checkpoints: int):
    with pytest.raises(UserError, match="loo has scores of 2; choose a number from 1 to 2"):
        pair_statistics(make_scores(noise(4, 2, 3, 3)), num_checkpoints)


def test_two_seeds_are_refused_and_three_suffice():
    with pytest.raises(UserError, match="loo has scores of 2 seeds"):
        pair_statistics(make_scores(noise(2, 1, 3, 3)), 1)
    assert np.isfinite(pair_statistics(make_scores(noise(3, 1, 3, 3)), 1).p_value).all()


def test_scale_and_sign_do_not_change_a_p_value():
    sample = noise(10, 20, 20)
    expected = signal_to_noise(*mean_and_std(sample))
    for factor in (-1.0, 1e-20, 1e20):
        ratio = signal_to_noise(*mean_and_std(factor * sample))
        np.testing.assert_allclose(single_draw(ratio), single_draw(expected), rtol=1e-9)
        np.testing.assert_allclose(t_test(ratio, 10), t_test(expected, 10), rtol=1e-9)
