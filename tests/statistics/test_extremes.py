"""Which test examples are shown, and which training examples with each."""

import numpy as np

from tda.statistics.extremes import choose_examples, extreme_examples, majority
from tda.statistics.pair_statistics import PairStatistics


def statistics_of(mean: np.ndarray, q_value: np.ndarray, ratio: np.ndarray | None = None) -> PairStatistics:
    ratio = np.ones_like(mean) if ratio is None else ratio
    return PairStatistics("loo", 4, 5, mean, np.ones_like(mean), ratio, q_value, q_value, q_value)


def test_majority_counts_votes_and_takes_the_smaller_label_on_a_tie():
    assert majority(np.array([[2, 0, 1], [2, 1, 2], [0, 1, 0]])).tolist() == [2, 1, 0]


def test_majority_is_taken_at_every_token():
    predicted = np.array([[[-1, 4, 7]], [[-1, 5, 7]], [[-1, 5, 6]]])
    assert majority(predicted).tolist() == [[-1, 5, 7]]


def test_choice_goes_by_the_share_of_significant_pairs_averaged_over_methods():
    first = np.array([[0.9, 0.01, 0.01, 0.9], [0.9, 0.01, 0.9, 0.9]])
    second = np.array([[0.9, 0.01, 0.01, 0.01], [0.9, 0.9, 0.9, 0.9]])
    methods = [statistics_of(np.ones((2, 4)), q_value) for q_value in (first, second)]
    assert list(choose_examples(methods, np.zeros(4, bool))) == [1, 0]
    assert list(choose_examples(methods, np.array([False, False, True, True]))) == [1, 0, 2]
    chosen = choose_examples(methods, np.array([False, True, False, False]))
    assert list(chosen) == [1, 0]
    assert chosen[1].startswith("the most reliably explained test example, and") and chosen[1].endswith("most seeds misread")
    assert chosen[0] == "the least reliably explained test example"


def test_a_tie_of_shares_goes_by_the_mean_size_of_t():
    ratio = np.array([[1.0, 3.0, 0.5], [1.0, 1.0, 0.5]])
    method = statistics_of(np.ones((2, 3)), np.ones((2, 3)), ratio)
    assert list(choose_examples([method], np.zeros(3, bool))) == [1, 2]
    equal = statistics_of(np.ones((2, 3)), np.ones((2, 3)))
    assert list(choose_examples([equal], np.zeros(3, bool))) == [0]


def test_extremes_are_ordered_and_keep_their_sign():
    helpful, harmful = extreme_examples(np.array([0.1, -3.0, 5.0, 0.0, 2.0, 2.0, 7.0, 1.0, -1.0]))
    assert helpful.tolist() == [6, 2, 4, 5, 7]
    assert harmful.tolist() == [1, 8]
