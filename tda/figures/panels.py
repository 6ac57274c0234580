"""Panels that figures of maps are made of: images as they looked before normalisation, and maps laid over them."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from torch import Tensor

from tda.figures.saving import drawable

_SATURATED = 0.995
"""Share of a map's pixels below full colour, so that a single bright one does not darken the rest."""

# From transparent to opaque, so that the image shows where the map is small.
_HEAT = LinearSegmentedColormap.from_list(
    "heat", [(1.0, 0.9, 0.3, 0.0), (1.0, 0.75, 0.1, 0.55), (0.95, 0.25, 0.05, 0.9), (0.5, 0.0, 0.15, 1.0)]
)
_LABEL_SIZE = 8
_SIDE = 1.15
"""Of a panel, in inches."""
_SCALE_WIDTH = 0.7
"""Inches for colour scales at the right."""
RATIO_END = 5
"""|mean| / std from which on a pixel has the last colour."""


def grid(rows: int, columns: int, side: float = _SIDE, left: float = 0.9) -> tuple[Figure, np.ndarray]:
    """A figure of square panels without axes, (rows, columns); side and the room on the left in inches."""
    figure = Figure(figsize=(left + columns * (side + 0.12) + _SCALE_WIDTH, rows * (side + 0.38) + 0.45), layout="constrained")
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


def title(panel: Axes, text: str, side: float = _SIDE) -> None:
    """Write above a panel of this side in inches, in lines that are no longer than it."""
    lines = [line for given in drawable(text).split("\n") for line in _wrapped(given, 72 * side)]
    panel.set_title("\n".join(lines), fontsize=_LABEL_SIZE, pad=3, parse_math=False)


def _wrapped(text: str, width: float) -> list[str]:
    """A text in lines of at most `width` points; a word that is longer loses its end."""
    lines: list[str] = []
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines else word
        if not lines or _width(joined) > width:
            lines.append(_cut(word, width))
        else:
            lines[-1] = joined
    return lines


def _cut(word: str, width: float) -> str:
    while _width(word) > width:
        word = f"{word.removesuffix('…')[:-1]}…"
    return word


def _width(text: str) -> float:
    """How many points a text takes in a title."""
    return text_to_path.get_text_width_height_descent(text, FontProperties(size=_LABEL_SIZE), ismath=False)[0]


_SCALES = {
    "absolute": (_HEAT, Normalize(0, 1), f"of each map’s {100 * _SATURATED:.1f}th percentile"),
    "signed": ("RdBu_r", Normalize(-1, 1), f"of each map’s {100 * _SATURATED:.1f}th percentile"),
    "ratio": ("viridis", Normalize(0, RATIO_END), "|mean| / std"),
}


def colour_scale(figure: Figure, panels: Sequence[Axes], kind: str) -> None:
    """Write at the right of panels what colours stand for: of absolute maps, of signed ones, or of |mean| / std."""
    colours, norm, label = _SCALES[kind]
    scale = figure.colorbar(ScalarMappable(norm, colours), ax=list(panels), fraction=0.03, pad=0.01, aspect=12)
    scale.set_label(label, fontsize=_LABEL_SIZE - 1)
    scale.ax.tick_params(labelsize=_LABEL_SIZE - 1)


def show_signed(panel: Axes, image: np.ndarray, signed: np.ndarray) -> None:
    """Draw a signed map (h, w) over the image in grey, red positive and blue negative, on a scale symmetric about 0."""
    grey = image @ np.array([0.299, 0.587, 0.114])
    panel.imshow(0.35 + 0.65 * grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    largest = max(float(np.quantile(np.abs(signed), _SATURATED)), np.finfo(np.float64).tiny)
    share = np.clip(signed / largest, -1, 1)
    panel.imshow(share, cmap="RdBu_r", vmin=-1, vmax=1, alpha=np.abs(share), interpolation="nearest")
