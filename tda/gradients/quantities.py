"""What is differentiated: functions of a model's logits and the labels, one or several numbers per example."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Quantity = Callable[[Tensor, Tensor], Tensor]
"""Maps logits and labels (b, ...) to (b,) or, for R quantities per example, (b, R); row i depends on example i alone."""


def cross_entropy_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Loss of each example in nats: (b, C), (b,) int64 -> (b,).

    In float64 between: 1 - p of a model that is sure of the label is rounded away in float32, and here below about 1e-15.
    """
    return functional.cross_entropy(logits.double(), labels, reduction="none").to(logits.dtype)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds log(p / (1 - p)) of the label: (b, C), (b,) int64 -> (b,), finite however sure the model is.

    The output function of TRAK (Park et al., ICML 2023).
    """
    is_label = torch.arange(logits.shape[1], device=logits.device) == labels[:, None]
    label_logit = torch.where(is_label, logits, 0).sum(dim=1)
    return label_logit - logits.masked_fill(is_label, -torch.inf).logsumexp(dim=1)


def all_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Every logit as a quantity of its own: (b, ..., C) -> (b, R), R the logits of an example."""
    return logits.flatten(1)


def curvature_roots(logits: Tensor, labels: Tensor) -> Tensor:
    """S^T z of the logits z, (b, C) -> (b, C), with S S^T = diag(p) - p p^T, the loss's curvature, held fixed.

    S = diag(sqrt p) - p sqrt(p)^T, so that column c is sqrt(p_c) (z_c - p . z). With B the Jacobian of these quantities over n
    examples, the Gauss-Newton matrix of their mean loss is B^T B / n.
    """
    probabilities = logits.detach().softmax(dim=1)
    return probabilities.sqrt() * (logits - (probabilities * logits).sum(dim=1, keepdim=True))


def curvature_weights(logits: Tensor, labels: Tensor) -> Tensor:
    """u (b, C) with which the loss's derivative by the logits, p - e_y, is S u, S that of curvature_roots."""
    log_probabilities = logits.log_softmax(dim=1)
    roots, label = (log_probabilities / 2).exp(), labels[:, None]
    of_label = log_probabilities.gather(1, label) / 2
    return roots.scatter(1, label, of_label.exp() - (-of_label).exp())


def contrast_roots(logits: Tensor, labels: Tensor) -> Tensor:
    """S^T z of the logits z, (b, C) -> (b, C - 1), with S S^T = diag(p) - p p^T, the loss's curvature, held fixed.

    S is the curvature's Cholesky factor (Tanabe and Sagae 1992), with one column less than curvature_roots: its rank is C - 1.
    Column c is sqrt(p_c q_c+1 / q_c) (z_c - the mean of the later logits by their probabilities), q_c the probability of class
    c and all later ones together.
    """
    probabilities = logits.detach().softmax(dim=1)
    from_here = _from_the_end(probabilities)
    later = from_here[:, 1:]
    # Where all later classes have underflowed, so has the scale, and any mean will do.
    tiny = torch.finfo(later.dtype).tiny
    means = _from_the_end(probabilities * logits)[:, 1:] / later.clamp(min=tiny)
    return (probabilities[:, :-1] * later / from_here[:, :-1].clamp(min=tiny)).sqrt() * (logits[:, :-1] - means)


def contrast_weights(logits: Tensor, labels: Tensor) -> Tensor:
    """u (b, C - 1) with which the loss's derivative by the logits, p - e_y, is S u, S that of contrast_roots.

    Before the label it is sqrt(p_c / (q_c q_c+1)), at the label -sqrt(q_c+1 / (q_c p_c)), behind it 0.
    """
    log_probabilities = logits.log_softmax(dim=1)
    log_from_here = log_probabilities.flip(1).logcumsumexp(dim=1).flip(1)
    own, here, later = log_probabilities[:, :-1], log_from_here[:, :-1], log_from_here[:, 1:]
    place = torch.arange(own.shape[1], device=logits.device) - labels[:, None]
    before, at = ((own - here - later) / 2).exp(), -((later - here - own) / 2).exp()
    return torch.where(place < 0, before, torch.where(place == 0, at, 0))


def _from_the_end(values: Tensor) -> Tensor:
    """Sums (b, C) of each column with all later ones."""
    return values.flip(1).cumsum(dim=1).flip(1)


def binary_cross_entropy_loss(class_index: int) -> Quantity:
    """The loss in nats of one class of a multi-label classifier: (b, C) and whether the class is there, (b,) 0 or 1 -> (b,)."""
    return lambda logits, labels: functional.binary_cross_entropy_with_logits(
        logits[:, class_index], labels.to(logits), reduction="none"
    )


def probe_quantity(logits: Tensor, labels: Tensor) -> Tensor:
    """A weighted sum of all logits, (n, ...) -> (n,): no loss, for that of a model that is sure has no gradient to compare."""
    flat = logits.reshape(len(logits), -1)
    weights = torch.arange(1, flat.shape[1] + 1, device=flat.device, dtype=flat.dtype).cos()
    return flat @ weights
