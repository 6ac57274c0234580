"""The linear datamodeling score against scipy and a naive bootstrap, and what it must be where the answer is known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from tda.statistics.linear_datamodeling_score import lds, lds_of_each, noise_ceiling, predictions

_GENERATOR = np.random.default_rng(3)
MASKS = _GENERATOR.random((40, 60)) < 0.5
SCORES = _GENERATOR.normal(size=(60, 30))
OUTPUTS = MASKS @ SCORES + 3 * _GENERATOR.normal(size=(40, 30))


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The same numbers whichever tests ran before."""
    return np.random.default_rng(seed).normal(size=shape)


def test_equals_a_plain_loop_with_scipy():
    coarse = np.round(OUTPUTS)
    for outputs in (OUTPUTS, coarse):
        predicted = predictions(MASKS, SCORES)
        expected = []
        for test in range(30):
            sums = [sum(SCORES[example, test] for example in range(60) if mask[example]) for mask in MASKS]
            expected.append(spearmanr(sums, outputs[:, test]).statistic)
        np.testing.assert_allclose(lds_of_each(predicted, outputs), expected, rtol=1e-10)


def test_scores_that_rank_the_outputs_reach_one_and_opposite_ones_minus_one():
    predicted = predictions(MASKS, SCORES)
    assert lds([predicted], np.exp(predicted)).value == pytest.approx(1)
    assert lds([-predicted], predicted).value == pytest.approx(-1)


def test_constant_scores_predict_nothing():
    assert lds([np.zeros((40, 30))], OUTPUTS) == lds([np.ones((40, 30))], OUTPUTS)
    assert lds([np.zeros((40, 30))], OUTPUTS).value == 0


def test_random_scores_are_zero_within_their_interval():
    found = lds([predictions(MASKS, noise(SCORES.shape, seed=0))], OUTPUTS)
    assert found.low < 0 < found.high and abs(found.value) < 0.1


def test_interval_is_that_of_a_naive_bootstrap_around_the_estimate():
    predicted = predictions(MASKS, SCORES)
    generator, found = np.random.default_rng(0), []
    for _ in range(60):
        subsets = generator.integers(40, size=40)
        tests = generator.integers(30, size=30)
        found.append(np.mean([spearmanr(predicted[subsets, test], OUTPUTS[subsets, test]).statistic for test in tests]))
    interval = lds([predicted], OUTPUTS, draws=60)
    expected = interval.value + np.quantile(found, (0.025, 0.975)) - np.mean(found)
    np.testing.assert_allclose((interval.low, interval.high), expected, rtol=1e-10)
    assert interval.low < interval.value < interval.high


def test_several_predictions_are_averaged():
    first, second = predictions(MASKS, SCORES), noise(OUTPUTS.shape, seed=0)
    expected = (lds([first], OUTPUTS).value + lds([second], OUTPUTS).value) / 2
    assert lds([first, second], OUTPUTS).value == pytest.approx(expected)


def test_noise_ceiling_is_the_agreement_of_two_halves():
    outputs = np.stack([OUTPUTS + 0.1 * noise(OUTPUTS.shape, seed) for seed in range(5)])
    expected = lds([outputs[:2].mean(0)], outputs[2:4].mean(0))
    assert noise_ceiling(outputs) == expected and expected.value > 0.99
    assert noise_ceiling(outputs[:1]) is None
