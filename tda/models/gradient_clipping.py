"""Gradients no longer than a limit."""

from collections.abc import Sequence

import torch
from torch import Tensor


def clipping_factors(gradients: Sequence[Tensor], limit: float, stacked: bool = False) -> Tensor:
    """limit / max(limit, norm), the norm the Euclidean one of all gradients together: what scales them down to the limit.

    stacked: the gradients (M, *shape) are those of M models, each with a norm of its own. Returns (M,), or (1,).
    """
    rows = [gradient.reshape(len(gradient) if stacked else 1, -1) for gradient in gradients]
    norms = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(row, dim=1) for row in rows]), dim=0)
    return limit / norms.clamp(min=limit)


@torch.no_grad()
def clip(parameters: Sequence[Tensor], limit: float, stacked: bool = False) -> None:
    """Scale the parameters' gradients in place so that a model's whole gradient is at most as long as the limit."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if gradients:
        factors = clipping_factors(gradients, limit, stacked)
        for gradient in gradients:
            gradient.mul_(factors.to(gradient.dtype).view(-1, *[1] * (gradient.dim() - 1)) if gradient.dim() else factors[0])
