"""What is said of examples: their own class, disagreement of methods, and whether a label looks wrong."""

from dataclasses import replace

import numpy as np
from scipy import stats

from tda.report.examples import disagreement, looks_mislabelled, median_correlation, method_says, scaled_ranks
from tda.report.members import Opinions
from tda.statistics.pair_statistics import PairStatistics, mean_and_std

LABELS = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0, 0])


def statistics_of(sample: np.ndarray, method: str = "loo", q: np.ndarray | None = None) -> PairStatistics:
    mean, std = mean_and_std(sample)
    q = np.full_like(mean, 0.5) if q is None else q
    return PairStatistics(method, len(sample), 5, mean, std, mean, q, q, q)


def random_sample(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(6, 4, 5))


def test_the_mean_for_the_own_class_is_tested_over_seeds():
    sample = random_sample()
    says = method_says(sample, statistics_of(sample), True, *LABELS)
    for row, label in enumerate(LABELS[0]):
        seeds = sample[:, row, LABELS[1] == label].mean(axis=1)
        test = stats.ttest_1samp(seeds, 0)
        assert np.isclose(says.own_class[row], seeds.mean()) and np.isclose(says.own_class_p[row], test.pvalue)


def test_reliable_pairs_are_counted_by_their_sign():
    sample = random_sample()
    mean = sample.mean(axis=0)
    q = np.where(np.arange(20).reshape(4, 5) % 2, 0.01, 0.9)
    says = method_says(sample, statistics_of(sample, q=q), True, *LABELS)
    assert says.helped.tolist() == [int(((q < 0.05) & (mean > 0))[row].sum()) for row in range(4)]
    assert says.harmed.tolist() == [int(((q < 0.05) & (mean < 0))[row].sum()) for row in range(4)]
    np.testing.assert_allclose(says.share_by_test, (q < 0.05).mean(axis=0))


def test_labels_of_tokens_have_no_own_class():
    sample = random_sample()
    says = method_says(sample, statistics_of(sample), True, np.zeros((4, 3), int), np.zeros((5, 3), int))
    assert says.own_class is None and says.own_class_p is None


def test_disagreement_is_one_less_the_mean_rank_correlation():
    samples = [random_sample(seed) for seed in range(3)]
    methods = [method_says(sample, statistics_of(sample), True, *LABELS) for sample in samples]
    found = disagreement(methods)
    for test in range(5):
        pairs = [(0, 1), (0, 2), (1, 2)]
        means = [sample.mean(axis=0)[:, test] for sample in samples]
        expected = 1 - np.mean([stats.spearmanr(means[i], means[j]).statistic for i, j in pairs])
        assert np.isclose(found[test], expected, atol=1e-6)
    np.testing.assert_allclose(disagreement([methods[0], methods[0]]), 0, atol=1e-6)
    alike = replace(methods[1], helpful=False)
    np.testing.assert_allclose(disagreement([methods[0], methods[2], alike]), disagreement([methods[0], methods[2]]))
    assert not disagreement(methods[:1]).any()


def test_ranks_of_a_single_example_are_zero():
    assert not scaled_ranks(np.ones((1, 3))).any()


def test_a_label_looks_wrong_to_most_seeds_or_to_most_methods():
    nothing = Opinions(np.zeros((3, 4)), np.ones((3, 4)), np.zeros((3, 4)), np.array([True, False, False, False]))
    base = random_sample()
    says = method_says(base, statistics_of(base), True, *LABELS)
    harmful = replace(says, own_class=np.array([1.0, -1, -1, 1]), own_class_p=np.array([0.01, 0.01, 0.5, 0.01]))
    other = replace(says, own_class=np.array([1.0, -1, -1, 1]), own_class_p=np.array([0.5, 0.01, 0.01, 0.01]))
    unlike = replace(says, helpful=False, own_class=-np.ones(4), own_class_p=np.zeros(4))
    suspicious, harms = looks_mislabelled(nothing, [harmful, other, unlike])
    assert suspicious.tolist() == [True, True, False, False] and harms.tolist() == [0, 2, 1, 0]


def test_the_median_correlation_is_of_different_methods():
    matrix = {"values": [[1, 0.2, 0.4], [0.2, 1, None], [0.4, None, 1]]}
    assert np.isclose(median_correlation(matrix), 0.3) and median_correlation(None) is None
    assert median_correlation({"values": [[1]]}) is None


def test_scores_that_are_the_same_for_every_seed_tell_nothing_from_noise():
    sample = np.repeat(random_sample()[:1], 6, axis=0)
    says = method_says(sample, statistics_of(sample, q=np.zeros((4, 5))), True, *LABELS)
    assert not says.varies and not says.share_by_test.any() and not says.helped.any() and not says.harmed.any()
    assert method_says(random_sample(), statistics_of(random_sample()), True, *LABELS).varies


def test_without_classes_no_label_looks_wrong():
    sample = random_sample()
    says = replace(method_says(sample, statistics_of(sample), True, *LABELS), own_class=-np.ones(4), own_class_p=np.zeros(4))
    nothing = Opinions(np.zeros((6, 4)), np.ones((6, 4)), None, np.array([True, False, False, True]))
    suspicious, harms = looks_mislabelled(nothing, [says])
    assert not suspicious.any() and not harms.any()
