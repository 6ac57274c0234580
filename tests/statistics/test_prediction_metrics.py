"""Metrics of a model's logits against torch and naive loops."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from tda.statistics.prediction_metrics import expected_calibration_error, log_probabilities, losses_of, prediction_metrics


def test_calibration_error_of_a_naive_loop_over_bins():
    generator = np.random.default_rng(0)
    confidences, correct = generator.uniform(0.2, 1, 200), generator.random(200) < 0.6
    expected = 0.0
    for place in range(10):
        inside = (confidences > place / 10) & (confidences <= (place + 1) / 10)
        if inside.any():
            expected += inside.mean() * abs(confidences[inside].mean() - correct[inside].mean())
    assert expected_calibration_error(confidences, correct, bins=10) == pytest.approx(expected, rel=1e-12)


def test_a_sure_model_that_is_right_is_calibrated_and_one_that_is_wrong_is_not():
    assert expected_calibration_error(np.ones(4), np.ones(4)) == 0
    assert expected_calibration_error(np.ones(4), np.zeros(4)) == 1
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([0, 1])) == 0


def test_losses_and_metrics_are_torch_s():
    logits = 30 * torch.randn(2, 12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, codes = np.arange(12) % 4, np.array([0, 1, 2] * 4)
    expected = functional.log_softmax(logits, dim=-1)
    np.testing.assert_allclose(log_probabilities(logits.numpy()), expected, rtol=1e-10, atol=1e-12)
    found = losses_of(logits.numpy(), labels)
    for number in range(2):
        torch_losses = functional.cross_entropy(logits[number], torch.from_numpy(labels), reduction="none")
        np.testing.assert_allclose(found[number], torch_losses, rtol=1e-10, atol=1e-12)
    metrics = prediction_metrics(logits[0].numpy(), labels, codes, codes == 1)
    correct = logits[0].argmax(1).numpy() == labels
    assert metrics["accuracy"] == pytest.approx(correct.mean())
    assert metrics["worst_group_accuracy"] == pytest.approx(min(correct[codes == code].mean() for code in range(3)))
    assert metrics["target_accuracy"] == pytest.approx(correct[codes == 1].mean())
    assert metrics["loss"] == pytest.approx(found[0].mean())
    assert np.isnan(prediction_metrics(logits[0].numpy(), labels, codes, codes == 9)["target_accuracy"])
