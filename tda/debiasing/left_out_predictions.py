"""What an example's label would be if it were not known: exact leave-one-out predictions of kernel ridge regression.

With a kernel K of n examples and one-hot labels Y less 1 / C, the prediction of example i by a regression on all others is
y_i - (M Y)_i / M_ii with M = (K + ridge)^-1 (the closed form of leave-one-out, Wahba 1990, section 4.2): no retraining, and
no own label in it. The kernel is exp(-2 (1 - cosine)) of representations, cosines averaged over the last layers of a model.
Depth and ridge are those whose predictions foretell the labels best: a choice that sees no true label.

`posterior_wrong` goes on from there: people and processes confuse some classes more than others. A table T of how often class c
is labelled y, and every example's true class given its label and its left-out prediction, are estimated in turns (Dawid and
Skene 1979, with a classifier in place of further annotators); the regression is then on what the labels probably should be.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from tda.system.errors import UserError

MOST_EXAMPLES = 20_000
"""A kernel of more examples would need more than 3 GB, and its inverse hours."""
MOST_LAYERS = 16
DEPTHS = (1, 2, 4, 8, 16)
RIDGES = (0.1, 0.2, 0.4, 0.8, 1.6)

_SHARPNESS = 2.0
_FIRST_RIDGE = 0.4
_TURNS = 2
# Logarithms of the factors between a regression's predictions and the logits of a softmax.
_LOG_SCALES = (0.0, 4.0)


@dataclass(frozen=True)
class LeftOut:
    """Predictions that no example's own label took part in.

    predictions: (n, C) float64, of centred one-hot labels; scale: times which they are logits; loss: mean cross-entropy in nats
    of the given labels; depth, ridge: what was chosen. again: left-out predictions of other targets (n, C) by the same kernel.
    """

    predictions: Tensor
    scale: float
    loss: float
    depth: int
    ridge: float
    again: Callable[[Tensor], Tensor]

    @property
    def probabilities(self) -> Tensor:
        """(n, C) float64."""
        return (self.scale * self.predictions).softmax(dim=1)


def cosine_kernel(layers: Sequence[Tensor]) -> Tensor:
    """exp(-2 (1 - c)) with c the mean over layers (n, d_l) of the cosines of standardised rows: (n, n) float64.

    A column without spread counts as 0.
    """
    cosines = sum(rows @ rows.T for rows in map(_standardised, layers)) / len(layers)
    return torch.exp(_SHARPNESS * (cosines.double() - 1))


def _standardised(rows: Tensor) -> Tensor:
    spread = rows.std(dim=0)
    smallest = torch.finfo(rows.dtype).tiny
    centred = (rows - rows.mean(dim=0)) / torch.where(spread > 1e-6 * spread.max(), spread, torch.inf)
    return functional.normalize(centred, dim=1, eps=smallest)


def left_out_predictor(kernel: Tensor, ridge: float) -> Callable[[Tensor], Tensor]:
    """The function from targets (n, C) float64 to what regressions on all other examples predict of each (n, C).

    kernel: (n, n) float64, symmetric and positive semidefinite; ridge: added to its diagonal, positive. Targets are rows that
    sum to 1, centred by 1 / C, so that an example's own target takes part in nothing that is predicted of it.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(kernel + ridge * torch.eye(len(kernel), dtype=kernel.dtype)))
    own = inverse.diagonal()[:, None]

    def predict(targets: Tensor) -> Tensor:
        centred = targets - 1 / targets.shape[1]
        return centred - inverse @ centred / own

    return predict


def left_out_predictions(layers: Sequence[Tensor], labels: Tensor, num_classes: int) -> LeftOut:
    """Leave-one-out predictions of labels (n,) int64, depth and ridge chosen by the loss on the given labels.

    layers: representations (n, d_l) of the model's last layers, last first. Raises UserError for more than MOST_EXAMPLES.
    """
    if len(labels) > MOST_EXAMPLES:
        raise UserError(f"a kernel of {len(labels)} examples does not fit; leave out the kernel's scores, or draw a subset")
    targets = functional.one_hot(labels, num_classes).double()
    depths = sorted({min(depth, len(layers)) for depth in DEPTHS})
    kernels = (cosine_kernel(layers[:depth]) for depth in depths)
    tried = [_left_out(kernel, _FIRST_RIDGE, depth, targets) for kernel, depth in zip(kernels, depths, strict=True)]
    depth = min(tried, key=lambda found: found.loss).depth
    kernel = cosine_kernel(layers[:depth])
    return min((_left_out(kernel, ridge, depth, targets) for ridge in RIDGES), key=lambda found: found.loss)


def _left_out(kernel: Tensor, ridge: float, depth: int, targets: Tensor) -> LeftOut:
    predict = left_out_predictor(kernel, ridge)
    predictions = predict(targets)
    scale, loss = _best_scale(predictions, targets, torch.eye(targets.shape[1], dtype=torch.float64))
    return LeftOut(predictions, scale, loss, depth, ridge, predict)


def _best_scale(predictions: Tensor, given: Tensor, confusions: Tensor) -> tuple[float, float]:
    """The factor by which predictions are logits of true classes that explain the given labels best, and the loss in nats."""

    def loss(log_scale: float) -> float:
        probabilities = (predictions * float(torch.tensor(log_scale).exp())).softmax(dim=1) @ confusions
        return -float((probabilities * given).sum(dim=1).clamp(min=1e-300).log().mean())

    found = minimize_scalar(loss, bounds=_LOG_SCALES, method="bounded")
    return float(torch.tensor(found.x).exp()), float(found.fun)


def posterior_wrong(left_out: LeftOut, labels: Tensor) -> Tensor:
    """The chance (n,) float64 that a given label is not the true class, by left-out predictions and confusions of classes."""
    num_classes = left_out.predictions.shape[1]
    given = functional.one_hot(labels, num_classes).double()
    confusions = 0.9 * torch.eye(num_classes, dtype=torch.float64) + 0.1 / num_classes
    believed = given
    for _ in range(_TURNS):
        predictions = left_out.again(believed)
        scale, _ = _best_scale(predictions, given, confusions)
        joint = (scale * predictions).softmax(dim=1) * confusions[:, labels].T
        believed = joint / joint.sum(dim=1, keepdim=True)
        counts = believed.T @ given + 1
        confusions = counts / counts.sum(dim=1, keepdim=True)
    return 1 - believed.gather(1, labels[:, None]).squeeze(1)
