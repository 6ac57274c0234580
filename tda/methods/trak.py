"""TRAK without projection: regression on the gradients of the margin, exact in its dual form (Park et al. 2023).

With f = log(p / (1 - p)) of the label, phi its gradient, Phi the training examples' phi as rows, and Q = 1 - p of the training
examples, TRAK's score is phi(test)^T (Phi^T Phi + ridge)^-1 Phi^T Q, which equals k^T (K + ridge)^-1 Q with K = Phi Phi^T and
k = Phi phi(test): n_train x n_train algebra on a gradient kernel, nothing random, nothing rescaled.

The score of an ensemble is the mean of Q times the mean of the rest, not the mean of the scores. A score file's report keeps
Q, as "train_factor", so that ensemble_scores.py can take the two means.
"""

import torch
from torch import Tensor

from tda.errors import UserError
from tda.gradient_kernel import gradient_kernel
from tda.members import Member
from tda.methods.registry import Attribution, per_member, register
from tda.quantities import margin
from tda.subsets import Split

# Keeps the rest recoverable from a float32 score where the model is sure beyond all measure.
SMALLEST_FACTOR = 1e-30


@register("trak", "TRAK", "Park et al. 2023, without projection", ridge=None)
@per_member
def trak(member: Member, train: Split, test: Split, ridge: float | None) -> Attribution:
    """How much each training example raises each test example's margin, with the exact gradients of one member.

    ridge: added to the kernel's diagonal; by default the mean of that diagonal. Raises UserError if it is negative, or too
    small for the kernel to be inverted.
    """
    left, right = (train.images, train.labels), (test.images, test.labels)
    kernel = gradient_kernel(member.model, left, right, quantity=margin, left_gram=True)
    return regression_scores(kernel.left_gram, kernel.cross, train_factor(member, train), ridge)


def train_factor(member: Member, train: Split) -> Tensor:
    """Q (n_train,) float64: 1 - p of the label, how far a training loss still moves with its margin."""
    with torch.no_grad():
        margins = torch.cat(
            [margin(member.model(images), labels) for images, labels in zip(train.images.split(64), train.labels.split(64), strict=True)]
        )
    return torch.sigmoid(-margins.double()).clamp(min=SMALLEST_FACTOR)


def regression_scores(gram: Tensor, cross: Tensor, factor: Tensor, ridge: float | None) -> Attribution:
    """TRAK's scores Q (K + ridge)^-1 k from K (n_train, n_train), k (n_train, n_test) and Q (n_train,), solved in float64."""
    if ridge is not None and ridge < 0:
        raise UserError(f"the ridge of TRAK must not be negative, but it is {ridge}")
    gram, cross = gram.double(), cross.double()
    chosen = float(gram.diagonal().mean()) if ridge is None else ridge
    system = (gram + gram.T) / 2 + chosen * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    triangle, failed = torch.linalg.cholesky_ex(system)
    if failed:
        raise UserError(f"TRAK's kernel cannot be inverted with a ridge of {chosen:.3g}; raise it, or leave it to the default")
    rest = torch.cholesky_solve(cross, triangle)
    sizes = cross.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
    residual = float(((system @ rest - cross).norm(dim=0) / sizes).max())
    report = {"ridge": chosen, "largest_relative_residual": residual, "train_factor": factor.tolist()}
    return Attribution(factor[:, None] * rest, report)
