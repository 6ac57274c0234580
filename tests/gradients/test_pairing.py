"""The objective of pairs against explicit sums, autograd and explicit Gauss-Newton matrices."""

import torch
from torch.nn import functional

from tda.gradients.objectives import Pairing

OBJECTIVE = Pairing()


def drawn(count: int = 3, others: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, 2, 1 + others, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), OBJECTIVE.labels({}, torch.zeros(count, dtype=torch.int64))


def test_loss_margin_and_surprise_are_means_over_both_sides():
    logits, labels = drawn()
    assert labels.tolist() == [[0, 0]] * 3
    for row, logit in enumerate(logits.detach()):
        p = logit.softmax(1)[:, 0]
        torch.testing.assert_close(OBJECTIVE.loss(logits, labels)[row], -p.log().mean())
        torch.testing.assert_close(OBJECTIVE.margin(logits, labels)[row], (p / (1 - p)).log().mean())
        torch.testing.assert_close(OBJECTIVE.surprise(logits, labels)[row], 1 - p.mean())
        torch.testing.assert_close(OBJECTIVE.label_residuals(logits, labels)[row], 1 - p.mean())
    # Half of the sum in Park et al.: -log sum_j exp(s_j - s) on either side.
    park = -(logits[:, :, 1:] - logits[:, :, :1]).logsumexp(2).sum(1)
    torch.testing.assert_close(OBJECTIVE.margin(logits, labels), park / 2)


def test_derivatives_by_the_logits():
    logits, labels = drawn()
    (slope,) = torch.autograd.grad(OBJECTIVE.loss(logits, labels).sum(), logits)
    torch.testing.assert_close(OBJECTIVE.residuals(logits, labels), -slope.flatten(1))
    (slope,) = torch.autograd.grad(OBJECTIVE.margin(logits, labels).sum(), logits)
    torch.testing.assert_close(OBJECTIVE.margin_weights(logits, labels), slope.flatten(1))


def test_curvature_and_its_roots():
    logits, labels = drawn()
    for row in range(len(logits)):
        one, label = logits[row : row + 1].detach(), labels[:1]
        hessian = torch.autograd.functional.hessian(lambda z, label=label: OBJECTIVE.loss(z, label).sum(), one)
        hessian = hessian.reshape(one.numel(), one.numel())
        roots = torch.autograd.functional.jacobian(lambda z, label=label: OBJECTIVE.curvature_roots(z, label)[0], one)
        roots = roots.reshape(-1, one.numel())
        torch.testing.assert_close(roots.T @ roots, hessian)
        torch.testing.assert_close(OBJECTIVE.curvature_trace(one, label)[0], hessian.trace())
        gradient = torch.autograd.functional.jacobian(lambda z, label=label: OBJECTIVE.loss(z, label)[0], one).flatten()
        torch.testing.assert_close(roots.T @ OBJECTIVE.root_weights(one, label)[0], gradient)
        change = torch.randn_like(one)
        torch.testing.assert_close(OBJECTIVE.curved(one, label, change).flatten(), hessian @ change.flatten())


def test_drawn_pairs_have_the_gauss_newton_matrix_in_expectation():
    logits, _ = drawn(1, 2)
    p, expected, size = logits.detach().softmax(2)[0], 0.0, logits[0].numel()
    for first in range(3):
        for second in range(3):
            labels = torch.tensor([[first, second]])
            (slope,) = torch.autograd.grad(OBJECTIVE.drawn_root(logits, labels).sum(), logits)
            expected = expected + p[0, first] * p[1, second] * torch.outer(slope.flatten(), slope.flatten())
    labels = torch.zeros(1, 2, dtype=torch.int64)
    hessian = torch.autograd.functional.hessian(lambda z: OBJECTIVE.loss(z, labels).sum(), logits.detach())
    torch.testing.assert_close(expected, hessian.reshape(size, size))


def test_what_counts_as_right():
    logits = torch.tensor([[[3.0, 1.0], [0.0, 2.0]], [[3.0, 1.0], [5.0, 2.0]]])
    predictions = OBJECTIVE.predictions(logits)
    assert predictions.tolist() == [[0, 1], [0, 0]]
    assert OBJECTIVE.correct(predictions, torch.zeros_like(predictions)).tolist() == [0.5, 1.0]
    chances = torch.tensor([[0.0, 0.99], [0.999, 0.0]])
    drawn_labels = OBJECTIVE.drawn_labels(logits, predictions, chances)
    cumulated = functional.softmax(logits, dim=2).cumsum(2)
    assert drawn_labels.tolist() == [
        [int((cumulated[row, side] <= chances[row, side]).sum()) for side in range(2)] for row in range(2)
    ]
