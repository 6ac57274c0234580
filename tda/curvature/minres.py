"""MINRES for a symmetric, possibly indefinite operator and many right-hand sides at once (Paige and Saunders 1975)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tda.curvature.products import Products


@dataclass(frozen=True)
class Solution:
    """x (k, p); relative residuals |b - A x| / |b| (k,), computed anew at the end; iterations used."""

    x: Tensor
    residuals: Tensor
    iterations: int


def minres(operator: Products, right_sides: Tensor, tolerance: float, max_iterations: int) -> Solution:
    """Solve A x = b for every row b of (k, p), each with its own Krylov space and one operator product a step.

    Stops when every relative residual is estimated below `tolerance`, or after `max_iterations`.
    """
    norms = right_sides.norm(dim=1)
    scale = torch.where(norms > 0, norms, torch.ones_like(norms))
    lanczos = right_sides / scale[:, None]
    previous = torch.zeros_like(lanczos)
    x, direction, earlier = torch.zeros_like(lanczos), torch.zeros_like(lanczos), torch.zeros_like(lanczos)
    beta = torch.zeros_like(norms)
    cosine, sine = -torch.ones_like(norms), torch.zeros_like(norms)
    delta, epsilon = torch.zeros_like(norms), torch.zeros_like(norms)
    residual = (norms > 0).to(norms.dtype)
    smallest = torch.finfo(norms.dtype).tiny
    iterations = 0
    while iterations < max_iterations and float(residual.abs().max()) >= tolerance:
        iterations += 1
        product = operator(lanczos) - beta[:, None] * previous
        alpha = (product * lanczos).sum(dim=1)
        product = product - alpha[:, None] * lanczos
        beta = product.norm(dim=1)
        previous, lanczos = lanczos, product / beta.clamp(min=smallest)[:, None]
        # The two Givens rotations that turn the tridiagonal matrix of the Lanczos process into an upper triangle.
        rotated = cosine * delta + sine * alpha
        bar = sine * delta - cosine * alpha
        next_epsilon, delta = sine * beta, -cosine * beta
        gamma = torch.hypot(bar, beta).clamp(min=smallest)
        cosine, sine = bar / gamma, beta / gamma
        step = cosine * residual
        residual = sine * residual
        new = (previous - rotated[:, None] * direction - epsilon[:, None] * earlier) / gamma[:, None]
        x, earlier, direction, epsilon = x + step[:, None] * new, direction, new, next_epsilon
    x = x * scale[:, None]
    residuals = (right_sides - operator(x)).norm(dim=1) / scale
    return Solution(x, residuals, iterations)
