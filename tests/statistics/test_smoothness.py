"""Metasmoothness against its formulas written out, and on trainings whose smoothness is known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from tda.statistics.smoothness import curvature, forecast, predicted_removal, sign_agreement


def test_agreement_is_the_definition_written_out():
    start, middle, end = np.array([0.0, 1.0, 2.0, 5.0]), np.array([1.0, 0.5, 3.0, 5.0]), np.array([3.0, 0.0, 2.5, 9.0])
    distances, signs = [3.0, 1.0, 0.5, 4.0], [1, 1, -1, 0]
    expected = sum(d * s for d, s in zip(distances, signs, strict=True)) / sum(distances)
    assert sign_agreement(start, middle, end) == pytest.approx(expected)
    stacked = sign_agreement(start, np.stack([middle, end]), np.stack([end, middle]))
    assert stacked.shape == (2,) and stacked[0] == pytest.approx(expected)


def test_agreement_of_known_motions():
    """Linear 1, two steps of a random walk sqrt(2) - 1, three independent points 0, there and back nothing that moved."""
    first, second, third = np.random.default_rng(0).standard_normal((3, 200_000))
    assert sign_agreement(first, first + second, first + 3 * second) == 1
    assert sign_agreement(0 * first, first, first + second) == pytest.approx(np.sqrt(2) - 1, abs=0.01)
    assert sign_agreement(first, second, third) == pytest.approx(0, abs=0.01)
    assert sign_agreement(first, second, first) == 1
    assert sign_agreement(np.zeros(2), np.array([2.0, 2.0]), np.array([1.0, 1.0])) == -1


def test_curvature_is_the_second_difference_over_the_square_of_the_step():
    places = np.array([0.0, 0.1, 0.2])
    start, middle, end = 3 * places**2 - 7 * places + 1
    assert curvature(start, middle, end, 0.1) == pytest.approx(6)
    assert curvature(*(5 * places + 2), 0.1) == pytest.approx(0, abs=1e-10)


def test_forecast_is_the_rank_correlation_of_each_output():
    generator = np.random.default_rng(1)
    begun = generator.standard_normal((9, 4))
    done = begun**3 + generator.standard_normal((9, 4)) * np.array([0, 0.1, 3, 0])
    begun[:, 3] = 0
    found = forecast(begun, done)
    assert found[:3] == pytest.approx([spearmanr(begun[:, test], done[:, test]).statistic for test in range(3)])
    assert found[0] == pytest.approx(1) and found[3] == 0


@pytest.mark.parametrize(
    ("forecasts", "expected"),
    [((0.9, 0.8, 0.6), 30), ((0.9, 0.5, 0.4), 8), ((0.9, 0.4, 0.6), 1), ((0.4, 0.9, 0.9), 0)],
)
def test_prediction_reaches_as_far_as_it_never_failed_before(forecasts: tuple[float, ...], expected: int):
    assert predicted_removal([1, 8, 30], forecasts) == expected
    assert predicted_removal([30, 8, 1], forecasts[::-1]) == expected
