"""Group alignment against a naive loop and a derivative, whatever groups are given as; pseudo-groups of planted structure."""

import numpy as np
import pytest
import torch
from scipy import stats

from tda.statistics.group_alignment import (
    alignment_weights,
    example_statistics,
    group_codes,
    group_means,
    pseudo_groups,
)

NUMBERS = [2, 0, 1, 1, 0, 1, 1, 1, 1]
WORDS = [("dog", "cat, patch", "cat")[number] for number in NUMBERS]


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Scores of 3 seeds, 7 training and 9 test examples; losses of the latter."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(3, 7, len(NUMBERS))), generator.exponential(size=len(NUMBERS))


def naive(scores: np.ndarray, groups: list, losses: np.ndarray, beta: float) -> np.ndarray:
    found = np.zeros(scores.shape[:2])
    total = 0.0
    for group in set(groups):
        members = [place for place, other in enumerate(groups) if other == group]
        weight = np.exp(beta * np.mean([losses[place] for place in members]))
        total += weight
        for place in members:
            found += weight / len(members) * scores[:, :, place]
    return found / total


@pytest.mark.parametrize("beta", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(
    "groups",
    [NUMBERS, WORDS, tuple(NUMBERS), np.array(NUMBERS), np.array(WORDS), torch.tensor(NUMBERS), [n == 1 for n in NUMBERS]],
    ids=["list", "words", "tuple", "array", "array of words", "tensor", "booleans"],
)
def test_alignment_is_that_of_a_naive_loop_whatever_groups_come_as(drawn, groups: object, beta: float):
    """Groups in a list are where the published code compares the list with a number and yields NaN."""
    scores, losses = drawn
    found = scores @ alignment_weights(groups, losses, beta)
    plain = groups.tolist() if isinstance(groups, torch.Tensor) else list(groups)
    np.testing.assert_allclose(found, naive(scores, plain, losses, beta), rtol=1e-12)
    assert np.isfinite(found).all() and found.shape == (3, 7)


def test_groups_need_not_be_counted_from_0_nor_be_of_equal_size(drawn):
    scores, losses = drawn
    apart = [{0: -5, 1: 40, 2: 7}[number] for number in NUMBERS]
    np.testing.assert_array_equal(alignment_weights(apart, losses), alignment_weights(NUMBERS, losses))
    single = scores @ alignment_weights(["all"] * len(NUMBERS), losses)
    np.testing.assert_allclose(single, scores.mean(axis=-1), rtol=1e-12)


def test_alignment_is_the_derivative_of_the_smoothed_worst_group_s_loss(drawn):
    """Scores are the rise of the test losses without an example; the log of the sum of exp(group loss) rises by alignment."""
    scores, losses = drawn
    _, codes = group_codes(NUMBERS)

    def smoothed(values: np.ndarray) -> float:
        return float(np.log(np.exp(group_means(values, codes)).sum()))

    step = 1e-6
    slopes = [(smoothed(losses + step * row) - smoothed(losses - step * row)) / (2 * step) for row in scores[0]]
    np.testing.assert_allclose(scores[0] @ alignment_weights(NUMBERS, losses), slopes, rtol=1e-8)


def test_large_losses_and_a_large_beta_leave_the_worst_group_alone():
    weights = alignment_weights([0, 0, 1, 1, 1], np.array([900.0, 900.0, 1.0, 1.0, 1.0]), beta=50.0)
    np.testing.assert_allclose(weights, [0.5, 0.5, 0, 0, 0], atol=1e-300)


def test_losses_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite losses"):
        alignment_weights([0, 1], np.array([1.0, np.nan]))


def test_names_of_groups_and_means():
    names, codes = group_codes(WORDS)
    assert names == ["cat", "cat, patch", "dog"] and codes.tolist() == [("cat", "cat, patch", "dog").index(w) for w in WORDS]
    means = group_means(np.arange(9.0), codes, num_groups=4)
    np.testing.assert_allclose(means[:3], [0, np.mean([2, 3, 5, 6, 7, 8]), np.mean([1, 4])])
    assert np.isnan(means[3])


def test_pseudo_groups_find_what_parts_a_class():
    """Test examples of both classes that feed on one half of the training examples, or the other."""
    generator = np.random.default_rng(1)
    labels, side = np.arange(40) % 2, np.arange(40) // 2 % 2
    scores = 0.1 * generator.normal(size=(30, 40))
    scores[:15] += np.where(side == 0, 1.0, -0.2)
    scores[15:] += np.where(side == 0, -0.2, 1.0)
    scores *= generator.uniform(0.5, 20, size=40)
    found = pseudo_groups(scores, labels)
    assert (found // 2 == labels).all()
    for label in (0, 1):
        sides = found[labels == label] % 2
        assert 0 < sides.sum() < len(sides) and abs(np.corrcoef(sides, side[labels == label])[0, 1]) == pytest.approx(1)
    np.testing.assert_array_equal(pseudo_groups(3 * scores, labels), found)


def test_pseudo_groups_of_test_examples_that_do_not_differ_are_the_classes():
    np.testing.assert_array_equal(pseudo_groups(np.ones((5, 4)), np.array([0, 1, 1, 2])), [0, 2, 2, 4])
    np.testing.assert_array_equal(pseudo_groups(np.zeros((5, 3)), np.array([0, 1, 1])), [0, 2, 2])


def test_statistics_over_seeds_are_scipy_s():
    sample = np.random.default_rng(2).normal(0.5, 1, size=(5, 40))
    found = example_statistics(sample)
    expected = stats.ttest_1samp(sample, 0).pvalue
    np.testing.assert_allclose(found.p_value, expected, rtol=1e-9)
    np.testing.assert_allclose(found.q_value, stats.false_discovery_control(expected), rtol=1e-9)
    np.testing.assert_allclose(found.std, sample.std(axis=0, ddof=1), rtol=1e-12)
    assert np.isnan(example_statistics(sample[:1]).q_value).all()
