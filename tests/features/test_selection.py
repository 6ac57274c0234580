"""Which test examples are explained, and which training examples with each."""

import numpy as np
import pytest
import torch

from tda.features.selection import chosen_tests, most_helpful
from tda.system.errors import UserError


def test_rules_choose_test_examples():
    indices, wrong = torch.tensor([5, 9, 2, 7]), np.array([False, True, False, True])
    scores = np.stack([np.array([[1.0, 1, 1, 1]]), np.array([[1.1, 3, 2, 1.01]])])
    assert chosen_tests("misclassified", 1, indices, wrong, scores).tolist() == [1]
    assert chosen_tests("reliable", 2, indices, wrong, scores).tolist() == [3, 0]
    assert chosen_tests("spread", 2, indices, wrong, scores).tolist() == [0, 3]
    assert chosen_tests("2,5", 9, indices, wrong, scores).tolist() == [2, 0]
    for rule, words in (("best", "unknown rule best"), ("2,4", "test example 4 is not")):
        with pytest.raises(UserError, match=words):
            chosen_tests(rule, 1, indices, wrong, scores)
    with pytest.raises(UserError, match="misclassified"):
        chosen_tests("misclassified", 1, indices, np.zeros(4, bool), scores)


def test_the_most_helpful_training_examples_come_first():
    mean = np.array([[0.1, 5.0], [0.3, -1.0], [0.2, 6.0]])
    pairs = most_helpful(mean, torch.tensor([1, 0]), 2)
    assert pairs.train.tolist() == [2, 0, 1, 2] and pairs.test.tolist() == [1, 1, 0, 0]
