"""What is removed, in which order the retrained models come, and what their margins' fall is."""

import numpy as np
import torch
from conftest import Ensemble
from scipy import stats

from tda.debiasing.removal import Outputs, outputs_without, random_ranking, removal_effect, seeds_of_retrainings
from tda.system.random_streams import stream_seed
from tda.training.retrainings import Retraining, RetrainingStore, without


def test_a_random_ranking_orders_all_examples_anew_for_each_test_example():
    found = random_ranking(20, 5)
    assert found.shape == (20, 5) and (np.sort(found, axis=0) == np.arange(20)[:, None]).all()
    assert len({tuple(order) for order in found.T}) == 5
    np.testing.assert_array_equal(random_ranking(20, 3), found[:, :3])


def test_outputs_are_in_the_order_of_removals_and_seeds(ensemble: Ensemble):
    seeds = seeds_of_retrainings(2)
    assert seeds == [stream_seed(number, "removal retraining") for number in range(2)]
    found = outputs_without(ensemble.study, [[[], [4, 1]]], seeds, same_run=False, force=False)
    assert found.margins.shape == found.losses.shape == found.predictions.shape == (2, 2, 150)
    store = RetrainingStore(ensemble.study)
    for removal, counted in enumerate(([0, 1, 2, 3, 4, 5], [0, 2, 3, 5])):
        for number in range(2):
            alone = store.load([Retraining(torch.tensor(counted), seeds[number])], "")
            np.testing.assert_array_equal(found.margins[removal, number], alone.margins[0].double())
            np.testing.assert_array_equal(found.losses[removal, number], alone.losses[0].double())
            np.testing.assert_array_equal(found.predictions[removal, number], alone.predictions[0])


def test_each_member_s_run_is_repeated_without_its_own_removals(ensemble: Ensemble):
    removals, seeds = [[[0], [4, 1]], [[2], [3]]], ensemble.study.seeds[1:]
    found = outputs_without(ensemble.study, removals, seeds, same_run=True, force=False)
    store = RetrainingStore(ensemble.study)
    for number, seed in enumerate(seeds):
        for removal, left_out in enumerate(removals[number]):
            alone = store.load([Retraining(without(6, left_out), seed, same_run=True)], "")
            np.testing.assert_array_equal(found.losses[removal, number], alone.losses[0].double())


def test_the_effect_is_that_on_the_test_example_whose_helpers_are_gone():
    generator, whole = np.random.default_rng(0), np.ones(7, dtype=bool)
    base, after = (
        Outputs(*(generator.normal(size=(removals, 3, 7)) for _ in range(2)), generator.integers(0, 2, (removals, 3, 7)), whole)
        for removals in (1, 4)
    )
    falls = [[base.margins[0, seed, test] - after.margins[test, seed, test] for seed in range(3)] for test in range(4)]
    flips = [base.predictions[0, seed, test] != after.predictions[test, seed, test] for seed in range(3) for test in range(4)]
    rises = np.array([[after.losses[test, seed, test] - base.losses[0, seed, test] for seed in range(3)] for test in range(4)])
    found = removal_effect(base, after)
    np.testing.assert_allclose(found["margin_fall"], np.mean(falls), rtol=1e-12)
    np.testing.assert_allclose(found["flips"], np.mean(flips), rtol=1e-12)
    assert found["low"] < found["margin_fall"] < found["high"]
    np.testing.assert_allclose(found["loss_rise"], rises.mean(), rtol=1e-12)
    without_one = [[np.delete(rises, out, axis=axis).mean() for out in range(rises.shape[axis])] for axis in (0, 1)]
    half = stats.t.ppf(0.975, 2) * np.sqrt(sum((len(means) - 1) * np.var(means) for means in without_one))
    np.testing.assert_allclose([found["loss_rise_low"], found["loss_rise_high"]], rises.mean() + np.array([-half, half]))
    # The interval is over test examples, whose values are means over the seeds.
    assert np.min(np.mean(falls, axis=1)) <= found["low"] and found["high"] <= np.max(np.mean(falls, axis=1))


def test_removing_nothing_changes_nothing():
    outputs = (*np.random.default_rng(0).normal(size=(2, 1, 2, 5)), np.ones((1, 2, 5), dtype=int))
    counted = np.ones(5, dtype=bool)
    found = removal_effect(Outputs(*outputs, counted), Outputs(*(np.repeat(part, 5, axis=0) for part in outputs), counted))
    assert set(found.values()) == {0}


def test_each_token_that_is_foretold_otherwise_counts_as_a_flip_and_padding_does_not():
    counted = np.array([[False, True, True, True], [False, True, True, False]])
    base = Outputs(*np.zeros((2, 1, 1, 2)), np.array([[[[-1, 3, 4, 5], [-1, 1, 1, 1]]]]), counted)
    after = np.array([[[[-1, 3, 4, 6], [-1, 0, 0, 0]]], [[[-1, 0, 0, 0], [-1, 1, 2, 2]]]])
    assert removal_effect(base, Outputs(*np.zeros((2, 2, 1, 2)), after, counted))["flips"] == (1 / 3 + 1 / 2) / 2
