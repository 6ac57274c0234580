"""What a model is trained on and judged by: the loss, the margin, and what curvature and regressions need to know of them.

An objective is a sum over positions of the cross-entropy of a softmax: one position an example for a classifier, one for each
counted token for a causal language model, two for an image with a text. Every function acts on logits and labels alone; row i
depends on example i alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tda.gradients.quantities import (
    contrast_roots,
    contrast_weights,
    cross_entropy_loss,
    curvature_roots,
    curvature_weights,
    margin,
)
from tda.system.inputs import Inputs


@dataclass(frozen=True)
class Classification:
    """One class for each example: logits (n, C), labels (n,) int64."""

    compares_examples = False

    def labels(self, inputs: Inputs, classes: Tensor) -> Tensor:
        """The labels of examples of these classes (n,)."""
        return classes

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy (n,) in nats."""
        return cross_entropy_loss(logits, labels)

    def margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Log-odds log(p / (1 - p)) of the label (n,)."""
        return margin(logits, labels)

    def surprise(self, logits: Tensor, labels: Tensor) -> Tensor:
        """1 - p of the label (n,), float64: how much the loss still moves with the margin."""
        return torch.sigmoid(-margin(logits, labels).double())

    def predictions(self, logits: Tensor) -> Tensor:
        """The most probable class (n,) int64."""
        return logits.argmax(1)

    def correct(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Whether the prediction is the label (n,), as 0 or 1 in float64."""
        return (predictions == labels).double()

    def drawn_labels(self, logits: Tensor, labels: Tensor, chances: Tensor) -> Tensor:
        """Labels (n,) as the model draws them where `chances`, of the labels' shape, are uniform in [0, 1)."""
        return _drawn(logits, chances)

    def drawn_root(self, logits: Tensor, labels: Tensor) -> Tensor:
        """A quantity (n,) whose gradients for drawn labels have, in expectation, the Gauss-Newton matrix as second moment."""
        return self.loss(logits, labels)

    def curvature_roots(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Quantities (n, R) whose gradients B give the Gauss-Newton matrix B^T B / n of the mean loss; held fixed inside.

        As few as there can be: one less than classes.
        """
        return contrast_roots(logits, labels)

    def root_weights(self, logits: Tensor, labels: Tensor) -> Tensor:
        """u (n, R) with which an example's loss gradient is B_i^T u_i."""
        return contrast_weights(logits, labels)

    def logit_roots(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The same as curvature_roots, one for each logit, which are alike whatever the order of the classes."""
        return curvature_roots(logits, labels)

    def curved(self, logits: Tensor, labels: Tensor, change: Tensor) -> Tensor:
        """The loss's second derivative by the logits, diag(p) - p p^T, times a change of the logits, both (n, C)."""
        probabilities = logits.detach().softmax(dim=1)
        return probabilities * (change - (probabilities * change).sum(dim=1, keepdim=True))

    def residuals(self, logits: Tensor, labels: Tensor) -> Tensor:
        """onehot - p, minus the loss's derivative by the logits: (n, C); in float64 between, as cross_entropy_loss."""
        return (functional.one_hot(labels, logits.shape[1]) - logits.double().softmax(dim=1)).to(logits.dtype)

    def label_residuals(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The residual at the label, 1 - p, (n,) in the logits' precision."""
        return self.residuals(logits, labels).gather(1, labels[:, None]).squeeze(1)

    def margin_weights(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The margin's derivative by the logits (n, C): 1 at the label, elsewhere minus the softmax over the others alone."""
        is_label = functional.one_hot(labels, logits.shape[1]).bool()
        return is_label.to(logits) - logits.masked_fill(is_label, -torch.inf).softmax(dim=1)

    def curvature_trace(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Trace (n,) of the loss's second derivative by the logits: 1 - sum of p^2."""
        return 1 - logits.softmax(dim=1).square().sum(dim=1)


@dataclass(frozen=True)
class NextToken:
    """A token at each position of a text, given those before it: logits (n, T, V), labels (n, T) int64.

    A label is the token at its own position, or negative where it does not count; logits at position t are for the token at
    t + 1. Everything is a mean over an example's counted tokens, so that a padded text counts as much as a long one.
    """

    compares_examples = False

    def labels(self, inputs: Inputs, classes: Tensor) -> Tensor:
        """The token ids themselves, -100 where `attention_mask` leaves one out; the classes only balance a subset.

        Of a model that reads one text and writes another, those of what it writes, which its decoder reads.
        """
        side = "decoder_" if "decoder_input_ids" in inputs else ""
        tokens = inputs[f"{side}input_ids"]
        mask = inputs.get(f"{side}attention_mask")
        return tokens if mask is None else tokens.masked_fill(mask == 0, -100)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy (n,) of the counted tokens, in nats."""
        predicted, targets, weights = _shifted(logits, labels)
        losses = functional.cross_entropy(predicted.flatten(0, 1), targets.flatten(), reduction="none")
        return (losses.view_as(weights) * weights).sum(dim=1)

    def margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean log-odds (n,) of the counted tokens."""
        margins, weights = _margins(logits, labels)
        return (margins * weights).sum(dim=1)

    def surprise(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean 1 - p (n,) of the counted tokens, float64."""
        margins, weights = _margins(logits, labels)
        return (torch.sigmoid(-margins.double()) * weights).sum(dim=1)

    def predictions(self, logits: Tensor) -> Tensor:
        """The most probable token (n, T) int64 at each position, given those before it; -1 at the first."""
        tokens = logits[:, :-1].argmax(-1)
        return torch.cat([torch.full_like(tokens[:, :1], -1), tokens], dim=1)

    def correct(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Share (n,) of the counted tokens that are foretold, float64."""
        counted = labels[:, 1:] >= 0
        right = (predictions[:, 1:] == labels[:, 1:]) & counted
        return right.sum(dim=1).double() / counted.sum(dim=1).clamp(min=1)

    def drawn_labels(self, logits: Tensor, labels: Tensor, chances: Tensor) -> Tensor:
        """Tokens (n, T) as the model draws them, each given the text before it; what is not counted stays so."""
        drawn = functional.pad(_drawn(logits[:, :-1], chances[:, 1:]), (1, 0))
        return torch.where(labels >= 0, drawn, labels)

    def drawn_root(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss times the root of the number of counted tokens (n,): drawn by themselves, they have no mixed terms."""
        return self.loss(logits, labels) * (labels[:, 1:] >= 0).sum(dim=1).to(logits).sqrt()

    def curvature_roots(self, logits: Tensor, labels: Tensor) -> Tensor:
        """A quantity of each logit at each position, (n, (T - 1) * V)."""
        predicted, targets, weights = _shifted(logits, labels)
        roots = curvature_roots(predicted.flatten(0, 1), targets.flatten())
        return (roots.view_as(predicted) * weights.sqrt()[..., None]).flatten(1)

    logit_roots = curvature_roots

    def root_weights(self, logits: Tensor, labels: Tensor) -> Tensor:
        """As of a classifier at each position, (n, (T - 1) * V)."""
        predicted, targets, weights = _shifted(logits, labels)
        found = curvature_weights(predicted.flatten(0, 1), targets.flatten())
        return (found.view_as(predicted) * weights.sqrt()[..., None]).flatten(1)

    def curved(self, logits: Tensor, labels: Tensor, change: Tensor) -> Tensor:
        """The loss's second derivative by the logits times a change of the logits, both (n, T, V)."""
        predicted, targets, weights = _shifted(logits, labels)
        flat = Classification().curved(predicted.flatten(0, 1), targets.flatten(), change[:, :-1].flatten(0, 1))
        return functional.pad(flat.view_as(predicted) * weights[..., None], (0, 0, 0, 1))

    def residuals(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Minus the loss's derivative by the logits, (n, T * V)."""
        return self._by_position(Classification().residuals, logits, labels)

    def label_residuals(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean 1 - p (n,) of the counted tokens, in the logits' precision."""
        predicted, targets, weights = _shifted(logits, labels)
        found = Classification().label_residuals(predicted.flatten(0, 1), targets.flatten())
        return (found.view_as(weights) * weights).sum(dim=1)

    def margin_weights(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The margin's derivative by the logits, (n, T * V)."""
        return self._by_position(Classification().margin_weights, logits, labels)

    def curvature_trace(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Trace (n,) of the loss's second derivative by the logits."""
        predicted, targets, weights = _shifted(logits, labels)
        found = Classification().curvature_trace(predicted.flatten(0, 1), targets.flatten())
        return (found.view_as(weights) * weights).sum(dim=1)

    def _by_position(self, function: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> Tensor:
        predicted, targets, weights = _shifted(logits, labels)
        found = function(predicted.flatten(0, 1), targets.flatten()).view_as(predicted)
        return functional.pad(found * weights[..., None], (0, 0, 0, 1)).flatten(1)


@dataclass(frozen=True)
class Pairing:
    """An image and its text find each other among others: logits (n, 2, C), labels (n, 2) int64.

    The logits of an example are the scaled similarities of its image with C texts, and of its text with C images; its own
    pair's come first, so that both labels are 0. Everything is a mean over both sides: the loss is that of Radford et al.
    (CLIP, 2021, figure 3), the margin half of the sum in Park et al. (TRAK, 2023, section 5.1). Whom an example is compared
    with is the model's choice: a fixed company where it is scored, the other examples of its batch where it is trained.
    """

    compares_examples = True

    def labels(self, inputs: Inputs, classes: Tensor) -> Tensor:
        """Zeros (n, 2); the classes only balance a subset."""
        return torch.zeros_like(classes)[:, None].repeat(1, 2)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy (n,) of both sides, in nats."""
        return self._mean(cross_entropy_loss, logits, labels)

    def margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean log-odds (n,) of both sides."""
        return self._mean(margin, logits, labels)

    def surprise(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean 1 - p (n,) of both sides, float64."""
        return self._mean(Classification().surprise, logits, labels)

    def predictions(self, logits: Tensor) -> Tensor:
        """The most similar text and image (n, 2) int64; 0 is the own one."""
        return logits.argmax(2)

    def correct(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Share (n,) of the sides on which the own pair comes first, float64."""
        return (predictions == labels).double().mean(dim=1)

    def drawn_labels(self, logits: Tensor, labels: Tensor, chances: Tensor) -> Tensor:
        """A text and an image (n, 2) as the model draws them."""
        return _drawn(logits, chances)

    def drawn_root(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss times the root of 2 (n,): the sides are drawn by themselves, so that they have no mixed terms."""
        return self.loss(logits, labels) * _SIDES**0.5

    def curvature_roots(self, logits: Tensor, labels: Tensor) -> Tensor:
        """A quantity of each logit on each side, (n, 2 * C)."""
        return self._flat(curvature_roots, logits, labels) * _SIDES**-0.5

    logit_roots = curvature_roots

    def root_weights(self, logits: Tensor, labels: Tensor) -> Tensor:
        """As of a classifier on each side, (n, 2 * C)."""
        return self._flat(curvature_weights, logits, labels) * _SIDES**-0.5

    def curved(self, logits: Tensor, labels: Tensor, change: Tensor) -> Tensor:
        """The loss's second derivative by the logits times a change of the logits, both (n, 2, C)."""
        flat = Classification().curved(logits.flatten(0, 1), labels.flatten(), change.flatten(0, 1))
        return flat.view_as(logits) / _SIDES

    def residuals(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Minus the loss's derivative by the logits, (n, 2 * C)."""
        return self._flat(Classification().residuals, logits, labels) / _SIDES

    def label_residuals(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean 1 - p (n,) of both sides, in the logits' precision."""
        return self._mean(Classification().label_residuals, logits, labels)

    def margin_weights(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The margin's derivative by the logits, (n, 2 * C)."""
        return self._flat(Classification().margin_weights, logits, labels) / _SIDES

    def curvature_trace(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Trace (n,) of the loss's second derivative by the logits."""
        return self._mean(Classification().curvature_trace, logits, labels)

    def _mean(self, function: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> Tensor:
        return function(logits.flatten(0, 1), labels.flatten()).view(-1, _SIDES).mean(dim=1)

    def _flat(self, function: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> Tensor:
        return function(logits.flatten(0, 1), labels.flatten()).view_as(logits).flatten(1)


_SIDES = 2

Objective = Classification | NextToken | Pairing
"""compares_examples: whether a training step compares the examples of its batch, so that one that is removed must leave it."""


def _drawn(logits: Tensor, chances: Tensor) -> Tensor:
    """The class (...) of the softmax of logits (..., C) below whose cumulated probability the chance (...) falls."""
    below = logits.softmax(dim=-1).cumsum(dim=-1) <= chances[..., None].to(logits)
    return below.sum(dim=-1).clamp(max=logits.shape[-1] - 1)


def _shifted(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (n, T - 1, V), the tokens (n, T - 1) that they foretell, and weights that sum to 1 an example."""
    targets = labels[:, 1:]
    counted = targets >= 0
    weights = counted.to(logits) / counted.sum(dim=1, keepdim=True).clamp(min=1)
    return logits[:, :-1], targets.clamp(min=0), weights


def _margins(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Margins and weights (n, T - 1) of every token."""
    predicted, targets, weights = _shifted(logits, labels)
    return margin(predicted.flatten(0, 1), targets.flatten()).view_as(weights), weights
