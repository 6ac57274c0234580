"""Packed arrays: which pairs are listed, and how near to the numbers what is read back is."""

import numpy as np
import pytest

from tda.report.packed import LEAST_Q, extreme_positions, largest_distance, lists_of, pair_bytes, seed_steps, transposed
from tda.report.sampling import LISTED
from tda.statistics.extremes import extreme_examples
from tda.statistics.pair_statistics import PairStatistics, benjamini_hochberg, mean_and_std, signal_to_noise, t_test


def sample_and_statistics(seeds: int = 10, trains: int = 30, tests: int = 7) -> tuple[np.ndarray, PairStatistics]:
    generator = np.random.default_rng(0)
    sample = generator.normal(size=(trains, tests)) + 0.4 * generator.normal(size=(seeds, trains, tests))
    sample[:, 3, 2] = 0.25
    mean, std = mean_and_std(sample)
    ratio = signal_to_noise(mean, std)
    p_value = t_test(ratio, seeds)
    return sample, PairStatistics("loo", seeds, 5, mean, std, ratio, p_value, benjamini_hochberg(p_value), p_value)


def test_the_listed_are_the_extremes_in_their_order():
    mean = np.random.default_rng(1).normal(size=(5, 40))
    mean[2] = np.abs(mean[2])
    found = extreme_positions(mean)
    for row, positions in zip(mean, found, strict=True):
        helpful, harmful = positions[:LISTED], positions[LISTED:]
        assert helpful[:5].tolist() == extreme_examples(row)[0].tolist()
        assert [p for p in harmful[:5].tolist() if p >= 0] == extreme_examples(row)[1].tolist()
    assert (found[2, LISTED:] == -1).all()


def test_few_examples_leave_places_empty():
    assert extreme_positions(np.array([[1.0, -2.0, 0.0]])).tolist() == [[0] + [-1] * 9 + [1] + [-1] * 9]


@pytest.mark.parametrize("direction", ["of test examples", "of training examples"])
def test_a_list_holds_the_numbers_of_its_pairs(direction: str):
    sample, statistics = sample_and_statistics()
    if direction == "of training examples":
        sample, statistics = sample.transpose(0, 2, 1), transposed(statistics)
    chosen = np.array([4, 2])
    lists = lists_of(sample, statistics, chosen)
    step = largest_distance(10) / 127
    for place, column in enumerate(chosen):
        for rank, position in enumerate(lists.positions[place]):
            if position < 0:
                continue
            pair = position, column
            assert lists.mean[place, rank] == statistics.mean[pair] and lists.q[place, rank] == statistics.q_value[pair]
            assert lists.std[place, rank] == statistics.std[pair]
            read = statistics.mean[pair] + lists.seeds[place, rank] * step * statistics.std[pair]
            np.testing.assert_allclose(read, sample[:, *pair], atol=0.5 * step * statistics.std[pair] + 1e-12)
    size = lists.positions.size
    assert len(lists.bytes_()) == size * (3 * 4 + 4 + 10)


def test_no_seed_is_further_away_than_the_largest_distance():
    seeds = np.array([[[0.0, 0.0, 0.0, 9.0]]])
    mean, std = seeds.mean(axis=-1), seeds.std(axis=-1, ddof=1)
    assert seed_steps(seeds, mean, std).max() == 127
    assert largest_distance(4) * std == pytest.approx(9 - mean)
    assert not seed_steps(np.full((1, 1, 3), 2.0), np.full((1, 1), 2.0), np.zeros((1, 1))).any()


def test_all_pairs_are_read_back_within_the_stated_errors():
    _, statistics = sample_and_statistics()
    trains, tests = np.array([0, 5, 29]), np.array([6, 1])
    content, scale = pair_bytes(statistics, trains, tests)
    half, code = np.frombuffer(content[:12], "<f2"), np.frombuffer(content[12:], "<u2")
    mean = statistics.mean[np.ix_(trains, tests)].T.ravel()
    q = statistics.q_value[np.ix_(trains, tests)].T.ravel()
    np.testing.assert_allclose(half.astype(float) * scale, mean, rtol=5e-4)
    np.testing.assert_allclose(10 ** (-16 * code.astype(float) / 65535), np.maximum(q, LEAST_Q), rtol=3e-4)


def test_scores_that_are_all_zero_are_packed():
    zeros = np.zeros((2, 3))
    statistics = PairStatistics("loo", 4, 5, zeros, zeros, zeros, zeros + 1, zeros + 1, zeros + 1)
    content, scale = pair_bytes(statistics, np.arange(2), np.arange(3))
    assert scale == 1 and not any(content)
    assert (lists_of(np.zeros((4, 2, 3)), statistics, np.arange(3)).positions == -1).all()
