"""Correlations between methods, as a picture."""

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from tda.methods.catalogue import method_title

_UNDEFINED = "–"
_COLOURS = "RdBu_r"


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
    scale = ScalarMappable(Normalize(-1, 1), _COLOURS)
    figure.colorbar(scale, ax=list(panels), label="correlation", shrink=0.8)
    return figure


def _draw_matrix(panel: Axes, matrix: pd.DataFrame) -> None:
    titled = matrix.rename(index=method_title, columns=method_title)
    seaborn.heatmap(titled, ax=panel, vmin=-1, vmax=1, cmap=_COLOURS, annot=True, fmt="z.2f", cbar=False, square=True)
    panel.set(xlabel="", ylabel="", facecolor="lightgrey")
    panel.tick_params(axis="y", labelrotation=0)
    for row, column in np.argwhere(np.isnan(matrix.to_numpy())):
        panel.text(column + 0.5, row + 0.5, _UNDEFINED, ha="center", va="center")
    panel.set_xticks(panel.get_xticks(), panel.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
