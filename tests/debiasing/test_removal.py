"""What is removed, in which order the retrained models come, and what their margins' fall is."""

import numpy as np
import torch
from conftest import Ensemble

from tda.debiasing.removal import outputs_without, random_ranking, removal_effect
from tda.system.random_streams import stream_seed
from tda.training.retrainings import Retraining, RetrainingStore


def test_a_random_ranking_orders_all_examples_anew_for_each_test_example():
    found = random_ranking(20, 5)
    assert found.shape == (20, 5) and (np.sort(found, axis=0) == np.arange(20)[:, None]).all()
    assert len({tuple(order) for order in found.T}) == 5
    np.testing.assert_array_equal(random_ranking(20, 3), found[:, :3])


def test_outputs_are_in_the_order_of_removals_and_seeds(ensemble: Ensemble):
    margins, predictions = outputs_without(ensemble.study, [[], [4, 1]], 2, force=False)
    assert margins.shape == predictions.shape == (2, 2, 150)
    store = RetrainingStore(ensemble.study)
    for removal, counted in enumerate(([0, 1, 2, 3, 4, 5], [0, 2, 3, 5])):
        for number in range(2):
            seed = stream_seed(number, "removal retraining")
            alone = store.load([Retraining(torch.tensor(counted), seed)], "")
            np.testing.assert_array_equal(margins[removal, number], alone.margins[0].double())
            np.testing.assert_array_equal(predictions[removal, number], alone.predictions[0])


def test_the_effect_is_that_on_the_test_example_whose_helpers_are_gone():
    generator = np.random.default_rng(0)
    base = generator.normal(size=(1, 3, 7)), generator.integers(0, 2, (1, 3, 7))
    after = generator.normal(size=(4, 3, 7)), generator.integers(0, 2, (4, 3, 7))
    falls = [[base[0][0, seed, test] - after[0][test, seed, test] for seed in range(3)] for test in range(4)]
    flips = [base[1][0, seed, test] != after[1][test, seed, test] for seed in range(3) for test in range(4)]
    found = removal_effect(base, after)
    np.testing.assert_allclose(found["margin_fall"], np.mean(falls), rtol=1e-12)
    np.testing.assert_allclose(found["flips"], np.mean(flips), rtol=1e-12)
    assert found["low"] < found["margin_fall"] < found["high"]
    # The interval is over test examples, whose values are means over the seeds.
    assert np.min(np.mean(falls, axis=1)) <= found["low"] and found["high"] <= np.max(np.mean(falls, axis=1))


def test_removing_nothing_changes_nothing():
    outputs = np.random.default_rng(0).normal(size=(1, 2, 5)), np.ones((1, 2, 5), dtype=int)
    found = removal_effect(outputs, tuple(np.repeat(part, 5, axis=0) for part in outputs))
    assert found == {"margin_fall": 0, "low": 0, "high": 0, "flips": 0}


def test_each_token_that_is_foretold_otherwise_counts_as_a_flip():
    base = np.zeros((1, 1, 2)), np.array([[[[-1, 3, 4, 5], [-1, 1, 1, 1]]]])
    after = np.zeros((2, 1, 2)), np.array([[[[-1, 3, 4, 6], [-1, 0, 0, 0]]], [[[-1, 0, 0, 0], [-1, 1, 2, 2]]]])
    assert removal_effect(base, after)["flips"] == 3 / 8
