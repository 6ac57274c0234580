"""What is differentiated: functions of a model's logits and the labels, one or several numbers per example."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Quantity = Callable[[Tensor, Tensor], Tensor]
"""Maps logits and labels (b, ...) to (b,) or, for R quantities per example, (b, R); row i depends on example i alone."""


def cross_entropy_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Loss of each example in nats: (b, C), (b,) int64 -> (b,)."""
    return functional.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds log(p / (1 - p)) of the label: (b, C), (b,) int64 -> (b,), finite however sure the model is.

    The output function of TRAK (Park et al., ICML 2023).
    """
    is_label = torch.arange(logits.shape[1], device=logits.device) == labels[:, None]
    label_logit = torch.where(is_label, logits, 0).sum(dim=1)
    return label_logit - logits.masked_fill(is_label, -torch.inf).logsumexp(dim=1)


def logit(class_index: int) -> Quantity:
    """The quantity (b, C), (b,) -> (b,) that is one class's logit, whatever the label."""
    return lambda logits, labels: logits[:, class_index]


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
