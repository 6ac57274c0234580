"""Objectives against float64 autograd on random logits, and against a position at a time."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from tiny_texts import encode
from torch import Tensor

from tda.gradients.objectives import Classification, NextToken, Objective

IGNORED = -100


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CLASSES = (Classification(), random_logits(6, 4), torch.tensor([3, 3, 1, 1, 2, 0]))
TOKENS = (
    NextToken(),
    random_logits(5, 4, 3),
    # Texts of full length, padded at the end, at the start, with a gap, and with no token that counts: the first is given.
    torch.tensor(
        [
            [2, 0, 1, 1],
            [1, 2, 0, IGNORED],
            [IGNORED, IGNORED, 2, 1],
            [0, IGNORED, 1, IGNORED],
            [2, IGNORED, IGNORED, IGNORED],
        ]
    ),
)
CASES = pytest.mark.parametrize(("objective", "logits", "labels"), [CLASSES, TOKENS], ids=["classes", "tokens"])


def positions(logits: Tensor, label: Tensor) -> list[tuple[Tensor, int]]:
    """The logits (C,) and the class of every counted position of one example."""
    if label.dim() == 0:
        return [(logits, int(label))]
    return [(logits[t - 1], int(label[t])) for t in range(1, len(label)) if label[t] >= 0]


def mean_over_positions(function: Callable[[Tensor, int], Tensor], logits: Tensor, label: Tensor) -> Tensor:
    each = [function(at, target) for at, target in positions(logits, label)]
    return torch.stack(each).mean() if each else 0 * logits.sum()


def plain_loss(logits: Tensor, label: Tensor) -> Tensor:
    return mean_over_positions(lambda at, target: -at.softmax(0)[target].log(), logits, label)


def plain_margin(logits: Tensor, label: Tensor) -> Tensor:
    return mean_over_positions(lambda at, target: torch.special.logit(at.softmax(0)[target]), logits, label)


def plain_surprise(logits: Tensor, label: Tensor) -> Tensor:
    return mean_over_positions(lambda at, target: 1 - at.softmax(0)[target], logits, label)


def gradients(function: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> Tensor:
    """Derivative of one number an example by its own logits: (n, ...)."""
    found = []
    for at, label in zip(logits, labels, strict=True):
        at = at.clone().requires_grad_()
        found.append(torch.autograd.grad(function(at, label), at)[0])
    return torch.stack(found)


def hessians(logits: Tensor, labels: Tensor) -> list[Tensor]:
    """The loss's second derivative by an example's logits end to end."""
    return [
        torch.autograd.functional.hessian(
            lambda flat, like=at, label=label: plain_loss(flat.view_as(like), label), at.flatten()
        )
        for at, label in zip(logits, labels, strict=True)
    ]


def jacobians(quantity: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> list[Tensor]:
    """Derivatives (R, C) of R quantities an example by its logits end to end."""
    found = []
    for i, at in enumerate(logits):
        jacobian = torch.autograd.functional.jacobian(lambda at, i=i: quantity(at[None], labels[i : i + 1])[0], at)
        found.append(jacobian.flatten(1))
    return found


@CASES
def test_loss_margin_and_surprise_are_means_over_counted_positions(objective: Objective, logits: Tensor, labels: Tensor):
    for function, plain in (
        (objective.loss, plain_loss),
        (objective.margin, plain_margin),
        (objective.surprise, plain_surprise),
    ):
        expected = torch.stack([plain(at, label) for at, label in zip(logits, labels, strict=True)])
        torch.testing.assert_close(function(logits, labels), expected, rtol=1e-10, atol=1e-12)


@CASES
def test_residuals_are_minus_the_loss_s_derivative(objective: Objective, logits: Tensor, labels: Tensor):
    expected = -gradients(plain_loss, logits, labels).flatten(1)
    torch.testing.assert_close(objective.residuals(logits, labels), expected, rtol=1e-9, atol=1e-12)


@CASES
def test_margin_weights_are_the_margin_s_derivative(objective: Objective, logits: Tensor, labels: Tensor):
    expected = gradients(plain_margin, logits, labels).flatten(1)
    torch.testing.assert_close(objective.margin_weights(logits, labels), expected, rtol=1e-9, atol=1e-11)


@CASES
def test_loss_and_margin_have_these_derivatives_themselves(objective: Objective, logits: Tensor, labels: Tensor):
    """The gradients that methods take by autograd through the objective."""
    for function, plain in ((objective.loss, plain_loss), (objective.margin, plain_margin)):
        at = logits.clone().requires_grad_()
        (found,) = torch.autograd.grad(function(at, labels).sum(), at)
        torch.testing.assert_close(found, gradients(plain, logits, labels), rtol=1e-9, atol=1e-11)


def test_loss_and_residuals_of_a_sure_model_are_exact_in_single_precision():
    """1 - p is 2e-9 and 3e-4: that of the first is far below the rounding of a probability near 1."""
    objective, labels = Classification(), torch.tensor([0, 1])
    logits = torch.tensor([[20.0, 0.0, -3.0], [1.0, 9.0, -12.0]], requires_grad=True)
    losses = objective.loss(logits, labels)
    assert losses.dtype == torch.float32
    expected = torch.stack([plain_loss(at, label) for at, label in zip(logits.double(), labels, strict=True)])
    torch.testing.assert_close(losses.double(), expected, rtol=1e-6, atol=0)
    (found,) = torch.autograd.grad(losses.sum(), logits)
    slopes = gradients(plain_loss, logits.detach().double(), labels)
    torch.testing.assert_close(found.double(), slopes, rtol=1e-6, atol=0)
    torch.testing.assert_close(-objective.residuals(logits, labels).double(), slopes, rtol=1e-6, atol=0)


@CASES
def test_curved_is_the_loss_s_second_derivative_times_a_change(objective: Objective, logits: Tensor, labels: Tensor):
    change = random_logits(*logits.shape, seed=1)
    expected = [matrix @ along.flatten() for matrix, along in zip(hessians(logits, labels), change, strict=True)]
    found = objective.curved(logits, labels, change)
    assert found.shape == logits.shape
    torch.testing.assert_close(found.flatten(1), torch.stack(expected), rtol=1e-8, atol=1e-11)


@CASES
def test_curvature_roots_give_the_loss_s_second_derivative(objective: Objective, logits: Tensor, labels: Tensor):
    """B^T B, B the roots' derivatives by the logits, as few as the classes less one or one for each logit."""
    for roots in (objective.curvature_roots, objective.logit_roots):
        for rows, expected in zip(jacobians(roots, logits, labels), hessians(logits, labels), strict=True):
            torch.testing.assert_close(rows.T @ rows, expected, rtol=1e-8, atol=1e-11)


def test_a_classifier_has_one_root_less_than_classes_however_sure_it_is():
    """Of logits hundreds apart too; the last label's weights are those of every class before it."""
    logits = torch.tensor([[200.0, 0.0, -200.0], [-300.0, 5.0, 300.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([2, 0, 1])
    rows = torch.stack(jacobians(Classification().curvature_roots, logits, labels))
    assert rows.shape == (3, 2, 3)
    found = (rows.mT @ Classification().root_weights(logits, labels)[..., None])[..., 0]
    expected = logits.softmax(1) - torch.nn.functional.one_hot(labels, 3)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    # One of two classes: sqrt(p (1 - p)) times the difference of the logits.
    pair = torch.tensor([[0.3, -1.1]], dtype=torch.float64)
    chance = float(pair.softmax(1)[0, 0])
    expected = (chance * (1 - chance)) ** 0.5 * (pair[0, 0] - pair[0, 1])
    torch.testing.assert_close(Classification().curvature_roots(pair, labels[:1])[0, 0], expected)


@CASES
def test_root_weights_make_the_loss_s_derivative_of_the_roots(objective: Objective, logits: Tensor, labels: Tensor):
    """B^T u."""
    weights = objective.root_weights(logits, labels)
    rows = jacobians(objective.curvature_roots, logits, labels)
    assert weights.shape == objective.curvature_roots(logits, labels).shape
    found = torch.stack([matrix.T @ u for matrix, u in zip(rows, weights, strict=True)])
    torch.testing.assert_close(found, gradients(plain_loss, logits, labels).flatten(1), rtol=1e-8, atol=1e-11)


@CASES
def test_trace_is_that_of_the_second_derivative(objective: Objective, logits: Tensor, labels: Tensor):
    expected = torch.stack([matrix.trace() for matrix in hessians(logits, labels)])
    torch.testing.assert_close(objective.curvature_trace(logits, labels), expected, rtol=1e-9, atol=1e-11)


@CASES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_label_residuals_are_the_surprise_in_the_logits_precision(
    objective, logits: Tensor, labels: Tensor, dtype: torch.dtype
):
    found, surprise = objective.label_residuals(logits.to(dtype), labels), objective.surprise(logits.to(dtype), labels)
    assert found.dtype == dtype and surprise.dtype == torch.float64
    expected = torch.stack([plain_surprise(at, label) for at, label in zip(logits, labels, strict=True)])
    torch.testing.assert_close(found, expected.to(dtype), rtol=1e-6 if dtype == torch.float32 else 1e-12, atol=1e-7)


@CASES
def test_an_example_s_row_depends_on_it_alone(objective: Objective, logits: Tensor, labels: Tensor):
    order = torch.arange(len(labels)).flip(0)
    for function in (
        objective.loss,
        objective.margin,
        objective.surprise,
        objective.residuals,
        objective.margin_weights,
        objective.curvature_roots,
        objective.root_weights,
        objective.curvature_trace,
        objective.label_residuals,
    ):
        whole = function(logits, labels)
        torch.testing.assert_close(function(logits[order], labels[order]), whole[order], rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(function(logits[2:3], labels[2:3]), whole[2:3], rtol=1e-12, atol=1e-14)


@CASES
def test_predictions_and_shares_of_right_ones(objective: Objective, logits: Tensor, labels: Tensor):
    predictions = objective.predictions(logits)
    assert predictions.shape == labels.shape and predictions.dtype == torch.int64
    expected = [
        [int(at.argmax()) == target for at, target in positions(example, label)]
        for example, label in zip(logits, labels, strict=True)
    ]
    found = objective.correct(predictions, labels)
    assert found.dtype == torch.float64 and 0 < found.sum() < len(found)
    assert found.tolist() == pytest.approx([sum(right) / max(1, len(right)) for right in expected])


def test_predicted_tokens_stand_at_their_own_position():
    logits = torch.zeros(1, 3, 4)
    logits[0, 0, 2] = logits[0, 1, 3] = logits[0, 2, 1] = 1
    assert NextToken().predictions(logits).tolist() == [[-1, 2, 3]]
    assert NextToken().correct(torch.tensor([[-1, 2, 3]]), torch.tensor([[0, 2, 1]])).tolist() == [0.5]


def test_labels_of_texts_are_the_tokens_that_the_mask_counts():
    tokens, classes = encode(["the cat sleeps", "a dog"]), torch.tensor([0, 1])
    found = NextToken().labels(tokens, classes)
    assert found.tolist() == [[1, 3, 7, IGNORED, IGNORED, IGNORED], [2, 4, IGNORED, IGNORED, IGNORED, IGNORED]]
    assert torch.equal(NextToken().labels({"input_ids": tokens["input_ids"]}, classes), tokens["input_ids"])
    assert Classification().labels(tokens, classes) is classes


def test_what_does_not_count_changes_nothing():
    """Logits after the last counted token, and those at positions whose successor is left out."""
    objective, logits, labels = TOKENS
    changed = logits.clone()
    for i, label in enumerate(labels):
        for t in range(logits.shape[1]):
            if t + 1 == logits.shape[1] or label[t + 1] < 0:
                changed[i, t] += random_logits(3, seed=t)
    for function in (objective.loss, objective.margin, objective.surprise, objective.residuals, objective.curvature_trace):
        torch.testing.assert_close(function(changed, labels), function(logits, labels), rtol=1e-12, atol=1e-14)


def test_text_without_a_counted_token_has_the_loss_zero():
    objective, logits, labels = TOKENS
    at = logits[4:].clone().requires_grad_()
    for function in (
        objective.loss,
        objective.margin,
        objective.surprise,
        objective.curvature_trace,
        objective.label_residuals,
    ):
        assert function(logits, labels)[4] == 0
    for function in (objective.residuals, objective.margin_weights, objective.curvature_roots, objective.root_weights):
        assert (function(logits, labels)[4] == 0).all()
    (gradient,) = torch.autograd.grad(objective.loss(at, labels[4:]).sum(), at)
    assert (gradient == 0).all()


@CASES
def test_drawn_labels_give_the_second_derivative_in_expectation(objective: Objective, logits: Tensor, labels: Tensor):
    """Over every combination of labels that an example may draw, by its probability."""
    for alone, label in zip(logits, labels, strict=True):
        places = [()] if label.dim() == 0 else [(t,) for t in range(1, len(label)) if label[t] >= 0]
        chances = [alone[(place[0] - 1,) if place else ...].softmax(0) for place in places]
        leaf, found = alone[None].clone().requires_grad_(), 0.0
        for combination in itertools.product(range(alone.shape[-1]), repeat=len(places)):
            drawn, weight = label.clone(), 1.0
            for place, of_place, number in zip(places, chances, combination, strict=True):
                drawn[place], weight = number, weight * of_place[number]
            slope = torch.autograd.grad(objective.drawn_root(leaf, drawn[None]).sum(), leaf)[0].flatten()
            found = found + weight * torch.outer(slope, slope)
        roots = torch.autograd.functional.jacobian(
            lambda z, label=label: objective.curvature_roots(z, label[None])[0], alone[None]
        )
        roots = roots.flatten(1)
        torch.testing.assert_close(found + torch.zeros_like(roots.T @ roots), roots.T @ roots)


@CASES
def test_labels_are_drawn_by_cumulated_probability(objective: Objective, logits: Tensor, labels: Tensor):
    chances = torch.rand(labels.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    drawn = objective.drawn_labels(logits, labels, chances)
    for i, label in enumerate(labels):
        places = [()] if label.dim() == 0 else [(t,) for t in range(1, len(label)) if label[t] >= 0]
        for place in places:
            bounds = logits[i][(place[0] - 1,) if place else ...].softmax(0).cumsum(0)
            number = int(drawn[i][place])
            assert (bounds[number - 1] if number else 0) <= chances[i][place] <= bounds[number]
    assert torch.equal(drawn < 0, labels < 0)
    highest = objective.drawn_labels(logits, labels, torch.ones_like(chances))
    assert int(highest.max()) < logits.shape[-1]


def test_padded_text_counts_as_much_as_a_long_one():
    """Of equal logits at every position the loss is log V, however many tokens count."""
    objective, _, labels = TOKENS
    found = objective.loss(torch.zeros(5, 4, 3, dtype=torch.float64), labels)
    torch.testing.assert_close(found, math.log(3) * torch.tensor([1, 1, 1, 1, 0.0], dtype=torch.float64))


@CASES
def test_sure_models_have_finite_numbers(objective: Objective, logits: Tensor, labels: Tensor):
    sure = 50 * logits.float()
    for function in (
        objective.loss,
        objective.margin,
        objective.residuals,
        objective.margin_weights,
        objective.curvature_roots,
    ):
        assert torch.isfinite(function(sure, labels)).all()
    # 1 / sqrt(p) of the label, which a float32 of exp(88) still holds.
    assert torch.isfinite(objective.root_weights(10 * logits.float(), labels)).all()
