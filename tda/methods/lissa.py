"""Influence functions by the published LiSSA recursion (Agarwal et al. 2017; Koh and Liang 2017).

s_0 = v, s_t = v + (1 - damping) s_(t-1) - H_t s_(t-1) / scale, H_t the Hessian of one batch of training examples, one
pass over the batches, result divided by scale. The recursion is linear in v: where there are fewer training than test
examples its transpose is applied to the training gradients, with the same result. At the published scale of 1e4 a
pass over a small training set never sees the Hessian, and the scores are those of Grad-Dot times a constant.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tda.curvature.inverses import Inverse, bilinear_scores
from tda.curvature.products import Products, hessian_products
from tda.curvature.symmetry import require_symmetric_hessian
from tda.data.splits import Split
from tda.methods.registry import Attribution, of_settings, one_after_another, register
from tda.system.errors import UserError
from tda.system.random_streams import stream
from tda.training.members import Member


def _refuse(scale: float, batch_size: int) -> None:
    """Raise UserError for settings that mean nothing."""
    if scale <= 0 or batch_size < 1:
        raise UserError(f"LiSSA needs a positive scale and batch size, not {scale} and {batch_size}")


@register(
    "if_lissa",
    "IF (LiSSA)",
    "Koh and Liang 2017; settings of Nguyen, Seo and Oh 2023",
    check=of_settings(_refuse),
    damping=5e-3,
    scale=1e4,
    batch_size=8,
)
@one_after_another
def lissa_influence(member: Member, train: Split, test: Split, damping: float, scale: float, batch_size: int) -> Attribution:
    """g_train^T s_test by the published recursion, the batches in an order that the member's seed fixes.

    Raises UserError if scale or batch_size is not positive.
    """
    forward, backward = lissa_operators(member, train, damping, scale, batch_size)
    scores, _ = bilinear_scores(member.model, member.objective, train, test, forward, backward)
    return Attribution(scores)


def lissa_operators(member: Member, train: Split, damping: float, scale: float, batch_size: int) -> tuple[Inverse, Inverse]:
    """The recursion's linear map and its transpose, each (k, p) -> ((k, p), 0); a fixed recursion has no residual."""
    _refuse(scale, batch_size)
    require_symmetric_hessian(member.model, train)
    order = torch.randperm(len(train), generator=stream(member.seed, "lissa batches"))
    hessians = [hessian_products(member.model, member.objective, train[batch]) for batch in order.split(batch_size)]
    keep = 1 - damping

    def forward(vectors: Tensor) -> tuple[Tensor, float]:
        estimate = vectors
        for hessian in hessians:
            estimate = vectors + keep * estimate - hessian(estimate) / scale
        return estimate / scale, 0.0

    return forward, lambda vectors: (_transposed(vectors, hessians, keep, scale), 0.0)


def _transposed(vectors: Tensor, hessians: Sequence[Products], keep: float, scale: float) -> Tensor:
    """With A_t = keep I - H_t / scale the map is I + A_T + A_T A_(T-1) + ..., its transpose I + A_T + A_(T-1) A_T + ..."""
    term, total = vectors, vectors
    for hessian in reversed(hessians):
        term = keep * term - hessian(term) / scale
        total = total + term
    return total / scale
