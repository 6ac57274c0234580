"""Figures of the analysis: histograms of p-values and heat maps of correlations, as PNG and PDF.

Figures are built without pyplot, whose state is global, and carry no date, so that the same numbers give the same bytes.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from tda.methods.catalogue import method_title
from tda.statistics.pair_statistics import SIGNIFICANCE_LEVEL, PairStatistics

_UNDEFINED = "–"
_COLOURS = "RdBu_r"


def draw_histograms(methods: Sequence[PairStatistics]) -> Figure:
    """One panel a method with the distribution of its t-test p-values over all pairs, all on the same axes.

    The title names the sample: how many seeds, and how many last checkpoints of each were averaged.
    Bars are shares of the pairs in bins as wide as the significance level; the line is what pure noise would give.
    """
    rows = math.ceil(len(methods) / 4)
    columns = math.ceil(len(methods) / rows)
    figure = Figure(figsize=(max(3.1 * columns, 5.0), 2.6 * rows + 0.9), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for panel, method in zip(panels.flat, methods, strict=False):
        _draw_histogram(panel, method)
    for panel in panels.flat[len(methods) :]:
        panel.set_visible(False)
    # A panel above an empty place has no neighbour below it that would carry its tick labels.
    for panel in panels.flat[max(0, len(methods) - columns) : len(methods)]:
        panel.tick_params(labelbottom=True)
    figure.supxlabel("p-value of the t-test over seeds")
    figure.supylabel("share of (train, test) pairs")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure


def _draw_histogram(panel: Axes, method: PairStatistics) -> None:
    bins = round(1 / SIGNIFICANCE_LEVEL)
    edges = np.linspace(0, 1, bins + 1)
    counts, _ = np.histogram(method.p_value, edges)
    colours = ["tab:orange"] + ["tab:blue"] * (bins - 1)
    shares = counts / method.p_value.size
    panel.bar(edges[:-1], shares, SIGNIFICANCE_LEVEL, align="edge", color=colours, edgecolor="white", linewidth=0.4)
    panel.axhline(1 / bins, color="black", linestyle="--", linewidth=1, label="pure noise")
    share = (method.p_value < SIGNIFICANCE_LEVEL).mean()
    panel.set_title(
        f"{method_title(method.method)}\n{share:.1%} below {SIGNIFICANCE_LEVEL} "
        f"({method.num_seeds} seeds, {method.num_checkpoints} checkpoints)",
        fontsize=9,
    )
    panel.set_xlim(0, 1)


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
