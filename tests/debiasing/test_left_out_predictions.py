"""Leave-one-out predictions in closed form against regressions that are fitted anew without each example."""

import pytest
import torch
from torch.nn import functional

from tda.debiasing import left_out_predictions as module
from tda.debiasing.left_out_predictions import cosine_kernel, left_out_predictions, left_out_predictor, posterior_wrong
from tda.statistics.area_under_curve import area_under_curve
from tda.system.errors import UserError


def clusters(count: int = 90, spread: float = 0.6) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Two layers of representations around three centres, and the true classes."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(count) % 3
    centres = torch.randn(3, 12, generator=generator)
    rows = centres[truth] + spread * torch.randn(count, 12, generator=generator)
    return [rows, torch.cat([rows[:, :6] ** 2, torch.zeros(count, 1)], dim=1)], truth


def test_the_closed_form_is_a_regression_on_all_others():
    layers, truth = clusters(20)
    kernel, targets = cosine_kernel(layers), functional.one_hot(truth, 3).double()
    found = left_out_predictor(kernel, 0.3)(targets)
    centred = targets - 1 / 3
    for place in range(20):
        others = torch.arange(20) != place
        inner = kernel[others][:, others] + 0.3 * torch.eye(19, dtype=torch.float64)
        expected = kernel[place, others] @ torch.linalg.solve(inner, centred[others])
        torch.testing.assert_close(found[place], expected, rtol=1e-9, atol=1e-12)


def test_no_own_label_takes_part():
    layers, truth = clusters(30)
    predict = left_out_predictor(cosine_kernel(layers), 0.4)
    targets = functional.one_hot(truth, 3).double()
    changed = targets.clone()
    changed[4] = changed[4].roll(1)
    torch.testing.assert_close(predict(changed)[4], predict(targets)[4], rtol=0, atol=1e-12)
    assert (predict(changed)[5] - predict(targets)[5]).abs().max() > 1e-4


def test_the_kernel_is_one_on_its_diagonal_and_takes_columns_without_spread():
    layers, _ = clusters(25)
    kernel = cosine_kernel(layers)
    torch.testing.assert_close(kernel.diagonal(), torch.ones(25, dtype=torch.float64), rtol=1e-6, atol=0)
    torch.testing.assert_close(kernel, cosine_kernel([layers[0], layers[1][:, :6]]))
    assert torch.linalg.eigvalsh(kernel).min() > -1e-6


def test_wrong_labels_are_found_and_depth_and_ridge_foretell_best():
    layers, truth = clusters()
    wrong = torch.zeros(90, dtype=torch.bool)
    wrong[::7] = True
    labels = torch.where(wrong, (truth + 1) % 3, truth)
    found = left_out_predictions(layers, labels, 3)
    suspicion = 1 - found.probabilities.gather(1, labels[:, None]).squeeze(1)
    assert area_under_curve(suspicion.numpy(), wrong.numpy()) > 0.95
    posterior = posterior_wrong(found, labels)
    assert ((posterior >= 0) & (posterior <= 1)).all() and area_under_curve(posterior.numpy(), wrong.numpy()) > 0.95
    given = functional.one_hot(labels, 3).double()
    for depth in (1, 2):
        one = module._left_out(cosine_kernel(layers[:depth]), 0.4, depth, given)
        assert found.loss <= one.loss + 1e-9
    log_loss = -(found.probabilities * given).sum(dim=1).log().mean()
    assert found.loss == pytest.approx(float(log_loss), rel=1e-6)


def test_confused_classes_make_a_label_more_suspicious():
    """A quarter of class 0 is labelled 1, class 2 never: the same doubt weighs more where labels are often wrong."""
    layers, truth = clusters(300, spread=0.6)
    wrong = (truth == 0) & (torch.arange(300) % 4 == 0)
    labels = torch.where(wrong, 1, truth)
    posterior = posterior_wrong(left_out_predictions(layers, labels, 3), labels)
    assert posterior[labels == 1].mean() > 2 * posterior[labels == 2].mean()
    assert area_under_curve(posterior.numpy(), wrong.numpy()) > 0.9


def test_too_many_examples_are_refused(monkeypatch: pytest.MonkeyPatch):
    layers, truth = clusters(30)
    monkeypatch.setattr(module, "MOST_EXAMPLES", 29)
    with pytest.raises(UserError, match="a kernel of 30 examples does not fit"):
        left_out_predictions(layers, truth, 3)
