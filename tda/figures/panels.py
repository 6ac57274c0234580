"""Panels that figures of maps are made of: images as they looked before normalisation, and maps laid over them."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from tda.figures.saving import drawable

_SATURATED = 0.995
"""Share of a map's pixels below full colour, so that a single bright one does not darken the rest."""

# From transparent to opaque, so that the image shows where the map is small.
_HEAT = LinearSegmentedColormap.from_list(
    "heat", [(1.0, 0.9, 0.3, 0.0), (1.0, 0.75, 0.1, 0.55), (0.95, 0.25, 0.05, 0.9), (0.5, 0.0, 0.15, 1.0)]
)
_LABEL_SIZE = 8


def grid(rows: int, columns: int, side: float = 1.15, left: float = 0.9) -> tuple[Figure, np.ndarray]:
    """A figure of square panels without axes, (rows, columns); side and the room on the left in inches."""
    figure = Figure(figsize=(left + columns * (side + 0.12), rows * (side + 0.30) + 0.45), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    return figure, panels


def pixels(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """A normalised image (c, h, w) as (h, w, 3) in [0, 1]."""
    shape = (-1, 1, 1)
    plain = (image.cpu().double() * torch.tensor(std).view(shape) + torch.tensor(mean).view(shape)).clamp(0, 1)
    return plain.expand(3, -1, -1).permute(1, 2, 0).numpy()


def show_image(panel: Axes, image: np.ndarray) -> None:
    """Draw (h, w, 3)."""
    panel.imshow(image, interpolation="nearest")


def show_overlay(panel: Axes, image: np.ndarray, absolute: np.ndarray) -> None:
    """Draw an absolute map (h, w) over the image in grey; full colour is the map's own 99.5th percentile."""
    grey = image @ np.array([0.299, 0.587, 0.114])
    panel.imshow(0.35 + 0.65 * grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    largest = max(float(np.quantile(absolute, _SATURATED)), np.finfo(np.float64).tiny)
    panel.imshow(np.clip(absolute / largest, 0, 1), cmap=_HEAT, vmin=0, vmax=1, interpolation="nearest")


def outline(panel: Axes, region: np.ndarray) -> None:
    """Frame the bounding box of a region (h, w) bool."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    corner = (columns[0] - 0.5, rows[0] - 0.5)
    frame = Rectangle(corner, len(columns), len(rows), fill=False, edgecolor="#0066cc", linewidth=1.2)
    panel.add_patch(frame)


def title(panel: Axes, text: str) -> None:
    """Write above a panel."""
    panel.set_title(drawable(text), fontsize=_LABEL_SIZE, pad=3, parse_math=False)


def show_signed(panel: Axes, image: np.ndarray, signed: np.ndarray) -> None:
    """Draw a signed map (h, w) over the image in grey, red positive and blue negative, on a scale symmetric about 0."""
    grey = image @ np.array([0.299, 0.587, 0.114])
    panel.imshow(0.35 + 0.65 * grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    largest = max(float(np.quantile(np.abs(signed), _SATURATED)), np.finfo(np.float64).tiny)
    share = np.clip(signed / largest, -1, 1)
    panel.imshow(share, cmap="RdBu_r", vmin=-1, vmax=1, alpha=np.abs(share), interpolation="nearest")
