"""Correlations between methods, as a picture."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from tda.figures.style import styled
from tda.methods.catalogue import method_title

_UNDEFINED = "–"
_COLOURS, _SCALE = colormaps["RdBu_r"], Normalize(-1, 1)
_DARK = 0.45
"""Brightness of a cell, from 0 to 1, below which letters on it are white."""


@styled()
def draw_correlations(matrices: dict[str, pd.DataFrame], title: str) -> Figure:
    """Annotated heat maps of matrices (methods, methods), one beside another, each under its key.

    Colours span -1 to 1. An undefined correlation (NaN) is a grey cell with a dash.
    """
    size = len(next(iter(matrices.values())))
    side = max(0.6 * size, 2.4)
    figure = Figure(figsize=(len(matrices) * (side + 1.4) + 0.8, side + 1.9), layout="constrained")
    panels = figure.subplots(1, len(matrices), sharey=True, squeeze=False)[0]
    for panel, (name, matrix) in zip(panels, matrices.items(), strict=True):
        _draw_matrix(panel, matrix)
        panel.set_title(name)
    figure.suptitle(title)
    scale = ScalarMappable(_SCALE, _COLOURS)
    figure.colorbar(scale, ax=list(panels), label="correlation", shrink=0.8)
    return figure


def _draw_matrix(panel: Axes, matrix: pd.DataFrame) -> None:
    values = matrix.to_numpy()
    panel.pcolormesh(values, cmap=_COLOURS, norm=_SCALE)
    panel.set(facecolor="lightgrey", aspect="equal", xlim=(0, len(values)), ylim=(len(values), 0))
    brightness = _COLOURS(_SCALE(values))[..., :3] @ np.array([0.299, 0.587, 0.114])
    for (row, column), value in np.ndenumerate(values):
        text = _UNDEFINED if np.isnan(value) else f"{value:z.2f}"
        colour = "white" if brightness[row, column] < _DARK and not np.isnan(value) else "black"
        panel.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour)
    middles = np.arange(len(values)) + 0.5
    panel.set_xticks(middles, map(method_title, matrix.columns), rotation=45, ha="right", rotation_mode="anchor")
    panel.set_yticks(middles, map(method_title, matrix.index))
    for spine in panel.spines.values():
        spine.set_visible(False)
