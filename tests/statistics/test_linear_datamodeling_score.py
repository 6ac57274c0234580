"""The linear datamodeling score against scipy and a naive bootstrap, and what it must be where the answer is known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from tda.statistics.intervals import Estimate
from tda.statistics.linear_datamodeling_score import lds, lds_of_each, noise_ceiling, predictions, retraining_agreement

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


def test_retrainings_agree_by_halves():
    outputs = np.stack([OUTPUTS + 0.1 * noise(OUTPUTS.shape, seed) for seed in range(5)])
    expected = lds([outputs[:2].mean(0)], outputs[2:4].mean(0))
    assert retraining_agreement(outputs) == expected and expected.value > 0.99
    assert retraining_agreement(outputs[:1]) is None


@pytest.mark.parametrize(("size_of_noise", "count"), [(0.7, 6), (1.2, 5), (2.0, 2)])
def test_an_exact_prediction_reaches_the_noise_ceiling_and_no_half_of_the_retrainings_does(size_of_noise: float, count: int):
    """The truth is known here: what retrainings scatter around."""
    truth = noise((400, 60), seed=100)
    outputs = truth + size_of_noise * np.stack([noise(truth.shape, seed) for seed in range(count)])
    halves, pair = retraining_agreement(outputs), retraining_agreement(outputs[:2])
    reached = lds([truth], outputs.mean(0)).value
    assert noise_ceiling(halves, count / (count // 2)).value == pytest.approx(reached, abs=0.02)
    assert noise_ceiling(pair, 1).value == pytest.approx(lds([truth], outputs[0]).value, abs=0.02)
    assert reached > halves.value + 0.05


def test_the_noise_ceiling_of_retrainings_that_disagree_is_zero():
    assert noise_ceiling(Estimate(-0.1, -0.3, 0.25), times=1) == Estimate(0.0, 0.0, 0.5)
