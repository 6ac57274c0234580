"""Where the spread of scores comes from, and what p-values make of it, as a picture."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda.figures.style import BLUE, GREEN, GREY, VERMILION, styled
from tda.methods.catalogue import method_title

_COLOURS = {"initialisation": BLUE, "order": VERMILION, "combination": GREEN, "checkpoint": GREY}
_WORDS = {
    "initialisation": "initialisation",
    "order": "order of batches",
    "combination": "their combination",
    "checkpoint": "checkpoint of a run",
}
_VARIED = {"both": "both", "initialisation": "initialisation alone", "order": "order alone"}


@styled()
def draw_variance(components: pd.DataFrame, p_values: pd.DataFrame) -> Figure:
    """Shares of a pair's score variance with intervals, and mean p-values where both sources of chance differ, or one alone.

    components: variance_components.csv, of which the rows where pairs weigh alike are drawn; p_values: variance_p_values.csv.
    """
    alike = components[components["weight"] == "pair"]
    numbers = sorted(alike["checkpoints"].unique())
    methods = list(dict.fromkeys(alike["method"]))
    figure = Figure(figsize=(3.2 * (len(numbers) + 1), 0.75 * len(methods) + 1.6), layout="constrained")
    panels = figure.subplots(1, len(numbers) + 1, sharey=True)
    for panel, number in zip(panels, numbers, strict=False):
        _draw_shares(panel, alike[alike["checkpoints"] == number].set_index("method").loc[methods])
        of = "a score of one checkpoint" if number == 1 else f"the mean of {number} checkpoints"
        panel.set(title=of, xlabel="share of a pair's variance over runs")
    _draw_p_values(panels[-1], p_values, methods)
    panels[0].set_yticks(range(len(methods)), [method_title(method) for method in methods])
    panels[0].invert_yaxis()
    for place, loc in ((0, "outside lower left"), (-1, "outside lower right")):
        handles, labels = panels[place].get_legend_handles_labels()
        figure.legend(handles, labels, loc=loc, ncols=2, frameon=False)
    return figure


def _draw_shares(panel: Axes, rows: pd.DataFrame) -> None:
    places = np.arange(len(rows))
    for number, (source, colour) in enumerate(_COLOURS.items()):
        values = rows[source].to_numpy()
        errors = np.stack((values - rows[f"{source}_low"], rows[f"{source}_high"] - values))
        height = places + (number - 1.5) * 0.2
        panel.barh(height, values, height=0.19, color=colour, label=_WORDS[source])
        if np.isfinite(errors).all():
            panel.errorbar(values, height, xerr=errors.clip(0), fmt="none", ecolor="black", elinewidth=0.8, capsize=1.5)
    panel.axvline(0, color="grey", linewidth=0.6)


def _draw_p_values(panel: Axes, p_values: pd.DataFrame, methods: list[str]) -> None:
    markers = dict(zip(_VARIED, ("o", "^", "s"), strict=True))
    for number, (varied, words) in enumerate(_VARIED.items()):
        rows = p_values[p_values["varied"] == varied].set_index("method").loc[methods]
        values = rows["mean_p_value"].to_numpy()
        errors = np.stack((values - rows["mean_p_lowest"], rows["mean_p_highest"] - values)).clip(0)
        places = np.arange(len(methods)) + (number - 1) * 0.2
        colour = _COLOURS.get(varied, GREEN)
        panel.errorbar(values, places, xerr=errors, fmt=markers[varied], capsize=2, color=colour, label=f"differs: {words}")
    runs = int(p_values["runs"].iloc[0])
    panel.set(title="p-values", xlabel=f"mean p of {runs} runs (lowest to highest sample)", xlim=(0, 1))
