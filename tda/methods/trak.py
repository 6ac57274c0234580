"""TRAK without projection: regression on the gradients of the margin, exact in its dual form (Park et al. 2023).

With f = log(p / (1 - p)) of the label, phi its gradient, Phi the training examples' phi as rows, and Q = 1 - p of the training
examples, TRAK's score is phi(test)^T (Phi^T Phi + ridge)^-1 Phi^T Q, which equals k^T (K + ridge)^-1 Q with K = Phi Phi^T and
k = Phi phi(test): n_train x n_train algebra on a gradient kernel, nothing random, nothing rescaled.

The score of an ensemble is the mean of Q times the mean of the rest, not the mean of the scores. A score file's report keeps
Q, as "train_factor", so that ensemble_scores.py can take the two means.
"""

import torch
from torch import Tensor

from tda.data.splits import Split
from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.quantities import margin
from tda.methods.registry import Attribution, per_member, register
from tda.system.errors import UserError
from tda.training.many_models import EVALUATION_BATCH
from tda.training.members import Member

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
    gram, cross = kernel.left_gram.double(), kernel.cross.double()
    chosen = checked_ridge(ridge, gram.diagonal())
    rest, residual = solve_with_ridge((gram + gram.T) / 2, cross, chosen)
    return regression_scores(member, train, rest, {"ridge": chosen, "largest_relative_residual": residual})


def checked_ridge(ridge: float | None, squared_norms: Tensor) -> float:
    """The ridge asked for, or else the mean of the training examples' squared norms; raises UserError if it is negative."""
    if ridge is not None and ridge < 0:
        raise UserError(f"the ridge of TRAK must not be negative, but it is {ridge}")
    return float(squared_norms.mean()) if ridge is None else ridge


def solve_with_ridge(matrix: Tensor, right_sides: Tensor, ridge: float) -> tuple[Tensor, float]:
    """(matrix + ridge)^-1 right_sides, and its largest relative residual; matrix (m, m), right_sides (m, k), float64.

    Raises UserError if the matrix cannot be inverted with this ridge.
    """
    system = matrix + ridge * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    triangle, failed = torch.linalg.cholesky_ex(system)
    if failed:
        raise UserError(f"TRAK's regression cannot be solved with a ridge of {ridge:.3g}; raise it, or leave it to the default")
    solved = torch.cholesky_solve(right_sides, triangle)
    sizes = right_sides.norm(dim=0).clamp(min=torch.finfo(matrix.dtype).tiny)
    return solved, float(((system @ solved - right_sides).norm(dim=0) / sizes).max())


def regression_scores(member: Member, train: Split, rest: Tensor, report: dict) -> Attribution:
    """Q times the rest (n_train, n_test); Q is kept in the report as "train_factor"."""
    with torch.no_grad():
        pairs = zip(train.images.split(EVALUATION_BATCH), train.labels.split(EVALUATION_BATCH), strict=True)
        margins = torch.cat([margin(member.model(images), labels) for images, labels in pairs])
    factor = torch.sigmoid(-margins.double()).clamp(min=SMALLEST_FACTOR)
    return Attribution(factor[:, None] * rest, report | {"train_factor": factor.tolist()})
