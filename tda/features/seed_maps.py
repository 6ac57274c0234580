"""Influence maps of an ensemble: the mean over seeds and checkpoints, and how far the seeds agree about each pixel."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import grad, jvp
from tqdm import tqdm

from tda.curvature.minres import minres
from tda.curvature.products import gauss_newton_products, unflatten
from tda.data.splits import Split
from tda.features.directions import Directions
from tda.features.influence_maps import SCORES, Pairs, Smoothing, gradients_of, influence_maps
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.objectives import Classification
from tda.gradients.quantities import Quantity, cross_entropy_loss
from tda.statistics.pair_statistics import mean_and_std, signal_to_noise
from tda.system.errors import UserError

Models = Sequence[Callable[[], nn.Module]]
"""The checkpoints of one seed, each made when it is needed."""


@dataclass(frozen=True)
class MapSettings:
    """What map is taken.

    score: of tda.features.influence_maps.SCORES; damping: added to the curvature by `if`; smoothing: noisy copies of the image;
    precise: maps of Grad-Cos in float64, for the gradient of an image that a network is very sure of is 0 in float32, which its
    direction, unlike its length, does not forgive.
    """

    score: str = "grad_cos"
    smoothing: Smoothing = Smoothing()
    damping: float = 0.5
    tolerance: float = 1e-3
    max_iterations: int = 100
    precise: bool = True

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise UserError(f"unknown score {self.score}; maps can be taken of {', '.join(SCORES)}")
        if self.smoothing.copies < 0 or self.smoothing.deviation < 0:
            raise UserError("the number of noisy copies and their deviation cannot be negative; 0 copies means no smoothing")
        if self.damping <= 0:
            raise UserError(f"the damping of the influence function must be positive, not {self.damping}")


@dataclass(frozen=True)
class PixelStatistics:
    """Over the seeds of an ensemble, per pixel (m, c, h, w) float64: mean, std (with n - 1), and |mean| / std.

    One seed has neither of the latter: they are None.
    """

    mean: np.ndarray
    std: np.ndarray | None
    signal_to_noise: np.ndarray | None


def maps_of_model(
    model: nn.Module, train: Split, test: Split, pairs: Pairs, settings: MapSettings, quantity: Quantity = cross_entropy_loss
) -> Tensor:
    """Maps (m, c, h, w) of the pairs under one model, by the score that the settings name."""
    needed, place = torch.unique(pairs.test, return_inverse=True)
    few = test[needed]
    if settings.score == "grad_cos" and settings.precise:
        own, own_place = torch.unique(pairs.train, return_inverse=True)
        model, train, few = deepcopy(model).double(), train[own].cast(torch.float64), few.cast(torch.float64)
        pairs = Pairs(own_place, pairs.test)
    vectors = _solved(model, train, few, quantity, settings) if settings.score == "if" else gradients_of(model, few, quantity)
    placed, cosine = Pairs(pairs.train, place), settings.score == "grad_cos"
    return influence_maps(model, train, vectors, placed, cosine, settings.smoothing, quantity).to(test.inputs.dtype)


def _solved(model: nn.Module, train: Split, test: Split, quantity: Quantity, settings: MapSettings) -> Directions:
    """(Gauss-Newton matrix + damping)^-1 times the test gradients, for the matrix of the mean training loss."""
    gradients = plan_gradients(model, test.inputs).rows(test.inputs, test.labels, quantity).dense()
    objective = Classification() if quantity is cross_entropy_loss else _Of(quantity)
    products = gauss_newton_products(model, objective, train)
    solution = minres(
        lambda rows: products(rows) + settings.damping * rows, gradients, settings.tolerance, settings.max_iterations
    )
    residual = float(solution.residuals.max())
    # MINRES stops by an estimate, from which rounding leaves the residual itself a little apart.
    if not residual <= 2 * settings.tolerance:
        raise UserError(
            f"the maps of `if` were not solved for: after {solution.iterations} products with the curvature the relative "
            f"residual is {residual:.2g}, above {settings.tolerance:g}; raise --damping, which is {settings.damping:g}"
        )
    return dict(unflatten(solution.x, model))


@dataclass(frozen=True)
class _Of:
    """What a Gauss-Newton matrix needs of a loss that is a quantity of the logits: its curvature there."""

    quantity: Quantity

    def curved(self, logits: Tensor, labels: Tensor, change: Tensor) -> Tensor:
        """The curvature times changes (n, C) of the logits."""
        return jvp(grad(lambda values: self.quantity(values, labels).sum()), (logits,), (change,))[1]


def maps_of_seeds(
    seeds: Sequence[Models],
    train: Split,
    test: Split,
    pairs: Pairs,
    settings: MapSettings,
    quantity: Quantity = cross_entropy_loss,
) -> Iterator[Tensor]:
    """Each seed's maps (m, c, h, w): the mean over its checkpoints.

    Raises UserError if a map holds NaN or infinity.
    """
    for number, checkpoints in enumerate(tqdm(seeds, desc=f"maps of {settings.score}", delay=2, leave=False)):
        total = 0
        for make in checkpoints:
            total = total + maps_of_model(make(), train, test, pairs, settings, quantity).cpu()
        maps = total / len(checkpoints)
        if not torch.isfinite(maps).all():
            raise UserError(f"a map of {settings.score} under seed number {number} is not finite; nothing was written")
        yield maps


def pixel_statistics(maps: Tensor) -> PixelStatistics:
    """Statistics over the first axis of maps (seeds, m, c, h, w)."""
    if len(maps) < 2:
        return PixelStatistics(maps[0].double().numpy(), None, None)
    mean, std = mean_and_std(maps.double().numpy())
    return PixelStatistics(mean, std, signal_to_noise(mean, std))
