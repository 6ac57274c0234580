"""The area under the ROC curve against scikit-learn, ties included."""

import numpy as np
from sklearn.metrics import roc_auc_score

from tda.statistics.area_under_curve import area_under_curve


def test_it_is_that_of_scikit_learn_for_each_row_ties_included():
    generator = np.random.default_rng(0)
    values, positive = generator.integers(0, 6, (3, 4, 50)).astype(float), generator.random(50) < 0.3
    expected = [[roc_auc_score(positive, row) for row in rows] for rows in values]
    np.testing.assert_allclose(area_under_curve(values, positive), expected, rtol=1e-12)


def test_it_is_the_share_of_pairs_in_order():
    positive = np.array([True, False, True, False])
    assert area_under_curve(np.array([3.0, 2, 1, 0]), positive) == 0.75
    assert area_under_curve(np.array([3.0, 1, 2, 0]), positive) == 1
    assert area_under_curve(np.array([1.0, 1, 0, 0]), positive) == 0.5
    assert area_under_curve(np.ones(4), positive) == 0.5


def test_ones_and_zeros_say_the_same_as_truth_values():
    values = np.random.default_rng(0).normal(size=6)
    positive = np.array([0, 1, 1, 0, 0, 1])
    assert area_under_curve(values, positive) == area_under_curve(values, positive.astype(bool))
