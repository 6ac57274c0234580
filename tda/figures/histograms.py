"""Histograms of p-values, as a picture."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda.figures.style import BLUE, VERMILION, styled
from tda.methods.catalogue import method_title
from tda.statistics.pair_statistics import SIGNIFICANCE_LEVEL, PairStatistics


@styled()
def draw_histograms(methods: Sequence[PairStatistics]) -> Figure:
    """One panel a method with the distribution of its t-test p-values over all pairs, all on the same axes.

    The title of the whole, or of a panel where methods differ in that, names the sample: how many seeds, and how many last
    checkpoints of each were averaged.
    Bars are shares of the pairs in bins as wide as the significance level; the line is what pure noise would give.
    """
    rows = math.ceil(len(methods) / 4)
    columns = math.ceil(len(methods) / rows)
    figure = Figure(figsize=(max(3.1 * columns, 5.0), 2.6 * rows + 0.9), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    samples = list(dict.fromkeys(map(_sample, methods)))
    for panel, method in zip(panels.flat, methods, strict=False):
        _draw_histogram(panel, method, _sample(method) if len(samples) > 1 else "")
    for panel in panels.flat[len(methods) :]:
        panel.set_visible(False)
    # Ticks that all panels share are found once; each would find its own, which takes longer than drawing.
    panels.flat[0].set_xticks(np.linspace(0, 1, 6))
    panels.flat[0].set(yticks=panels.flat[0].get_yticks(), ylim=panels.flat[0].get_ylim())
    # A panel above an empty place has no neighbour below it that would carry its tick labels.
    for panel in panels.flat[max(0, len(methods) - columns) : len(methods)]:
        panel.tick_params(labelbottom=True)
    common = f" ({samples[0]})" if len(samples) == 1 else ""
    figure.supxlabel(f"p-value of the t-test over seeds{common}")
    figure.supylabel("share of (train, test) pairs")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure


def _sample(method: PairStatistics) -> str:
    return f"{method.num_seeds} seeds, {method.num_checkpoints} checkpoints"


def _draw_histogram(panel: Axes, method: PairStatistics, sample: str) -> None:
    bins = round(1 / SIGNIFICANCE_LEVEL)
    edges = np.linspace(0, 1, bins + 1)
    counts, _ = np.histogram(method.p_value, edges)
    colours = [VERMILION] + [BLUE] * (bins - 1)
    shares = counts / method.p_value.size
    panel.bar(edges[:-1], shares, SIGNIFICANCE_LEVEL, align="edge", color=colours, edgecolor="white", linewidth=0.4)
    panel.axhline(1 / bins, color="black", linestyle="--", linewidth=1, label="pure noise")
    share = (method.p_value < SIGNIFICANCE_LEVEL).mean()
    panel.set_title(
        "\n".join(filter(None, (method_title(method.method), f"{share:.1%} below {SIGNIFICANCE_LEVEL}", sample))), fontsize=9
    )
    panel.set_xlim(0, 1)
