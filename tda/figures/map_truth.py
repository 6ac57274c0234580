"""The truth test of maps, as a picture."""

import pandas as pd
from matplotlib.figure import Figure

from tda.features.truth_test import PROTOCOLS
from tda.figures.style import BLUE, VERMILION, styled

_TITLES = {"keep": "only these pixels are kept", "delete": "these pixels are removed"}


_ORDERS = {"map": (VERMILION, "by the map"), "random": (BLUE, "at random")}


@styled()
def draw_truth(table: pd.DataFrame) -> Figure:
    """A panel for each protocol: loss changes against the share of pixels, by the map and at random, and the whole image's."""
    figure = Figure(figsize=(8.2, 3.3), layout="constrained")
    whole = table[(table.protocol == "keep") & (table.share == 1)].loss_change.mean()
    for panel, protocol in zip(figure.subplots(1, 2, sharey=True), PROTOCOLS, strict=True):
        for order, (colour, name) in _ORDERS.items():
            rows = table[(table.protocol == protocol) & (table.pixels == order)]
            panel.plot(100 * rows.share, rows.loss_change, "o-", color=colour, markersize=3.5, label=name)
            panel.fill_between(100 * rows.share, rows.low, rows.high, color=colour, alpha=0.2, linewidth=0)
        panel.axhline(whole, color="black", linestyle="--", linewidth=1, label="whole image")
        panel.set_xscale("log")
        panel.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
        panel.set_xlabel("share of the pixels, %")
        panel.set_title(_TITLES[protocol], fontsize=10)
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("test loss lowered by one step, nats")
    figure.axes[0].legend(frameon=False)
    return figure
