"""Subsets with an example against those without, as a loop has it."""

import numpy as np

from tda.statistics.retraining_effect import mean_with_minus_without


def test_it_is_the_difference_of_two_means():
    generator = np.random.default_rng(0)
    masks, outputs = generator.random((12, 7)) < 0.4, generator.normal(size=(12, 3))
    masks[:, 2], masks[:, 5] = True, False
    found = mean_with_minus_without(masks, outputs)
    assert found.shape == (7, 3)
    for example in range(7):
        inside = masks[:, example]
        expected = 0 if inside.all() or not inside.any() else outputs[inside].mean(axis=0) - outputs[~inside].mean(axis=0)
        np.testing.assert_allclose(found[example], np.broadcast_to(expected, 3), rtol=1e-12, atol=1e-15)


def test_additive_outputs_over_all_subsets_give_the_effects_back():
    masks = np.array([[number >> bit & 1 for bit in range(4)] for number in range(16)], dtype=bool)
    effects = np.array([[1.0, -2.0], [0.0, 3.0], [0.5, 0.25], [-4.0, 0.0]])
    np.testing.assert_allclose(mean_with_minus_without(masks, 7 + masks @ effects), effects, atol=1e-12)
