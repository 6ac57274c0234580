"""From a map with a value for each channel to one with a value for each pixel, and where its mass lies."""

from collections.abc import Callable

import torch
from torch import Tensor

from tda.statistics.area_under_curve import area_under_curve as area_under_roc
from tda.system.errors import UserError

_SIGNED: dict[str, Callable[[Tensor], Tensor]] = {
    "largest": lambda maps: maps.gather(-3, maps.abs().argmax(-3, keepdim=True)).squeeze(-3),
    "sum": lambda maps: maps.sum(-3),
}
_ABSOLUTE: dict[str, Callable[[Tensor], Tensor]] = {
    "largest": lambda maps: maps.abs().amax(-3),
    "sum": lambda maps: maps.abs().sum(-3),
    "norm": lambda maps: torch.linalg.vector_norm(maps, dim=-3),
}


def reduce_channels(maps: Tensor, reduction: str = "largest", absolute: bool = True) -> Tensor:
    """Maps (..., c, h, w) -> (..., h, w): the channel's largest value, their sum, or their Euclidean norm.

    absolute: of the values' sizes; else the sign is kept, which a norm has none of. Raises UserError for an unknown reduction.
    """
    known = _ABSOLUTE if absolute else _SIGNED
    if reduction not in known:
        kind = "absolute" if absolute else "signed"
        raise UserError(f"unknown channel reduction {reduction} of {kind} maps; known ones are {', '.join(known)}")
    return known[reduction](maps)


def mass_share(maps: Tensor, region: Tensor) -> Tensor:
    """Share (m,) of each absolute map (m, h, w) in a region (h, w) bool; for a map of 0 the region's share of the area."""
    inside, total = (maps * region).sum((-2, -1)), maps.sum((-2, -1))
    return torch.where(total > 0, inside / total.clamp(min=torch.finfo(maps.dtype).tiny), region.double().mean().to(maps))


def area_under_curve(maps: Tensor, region: Tensor) -> Tensor:
    """Area (m,) under the ROC curve of "this pixel belongs to the region" by each map's (m, h, w) values; ties count half."""
    return torch.from_numpy(area_under_roc(maps.flatten(-2).double().cpu().numpy(), region.flatten().cpu().numpy()))


def largest_inside(maps: Tensor, region: Tensor) -> Tensor:
    """Whether (m,) the largest value of each map (m, h, w) lies in the region (h, w), as 0 or 1; the first of equals counts."""
    return region.flatten()[maps.flatten(-2).argmax(-1)].double()


def centre_of_mass(maps: Tensor) -> Tensor:
    """Row and column (m, 2) of the centre of each absolute map (m, h, w), counted from 0."""
    height, width = maps.shape[-2:]
    total = maps.sum((-2, -1)).clamp(min=torch.finfo(maps.dtype).tiny)
    rows = (maps.sum(-1) * torch.arange(height).to(maps)).sum(-1) / total
    columns = (maps.sum(-2) * torch.arange(width).to(maps)).sum(-1) / total
    return torch.stack([rows, columns], dim=1)
