"""How far derivatives through a training reach, as a picture."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tda.figures.style import lines_of, styled
from tda.statistics.smoothness import PREDICTED


@styled()
def draw_metasmoothness(table: pd.DataFrame) -> Figure:
    """The forecast against the number of removed examples, a curve for each experiment, with intervals over seeds.

    table: metasmoothness.csv. The legend gives each experiment's metasmoothness, of its trained parameters.
    """
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    panel = figure.subplots()
    styles = lines_of(list(dict.fromkeys(table["experiment"])))
    for name, rows in table.groupby("experiment", sort=False):
        removals, along = rows[rows["removed"] > 0], rows[rows["removed"] == 0]
        told = removals["forecast"]
        errors = np.stack((told - removals["forecast_low"], removals["forecast_high"] - told)).clip(0)
        label = f"{name} ({along['agreement'].iloc[0]:.2f})"
        panel.errorbar(removals["removed"], told, errors, capsize=2, label=label, **styles[name])
    panel.axhline(PREDICTED, color="grey", linewidth=0.8, linestyle=":")
    panel.set(xscale="log", ylim=(-0.25, 1.05))
    panel.set(xlabel="random training examples removed", ylabel="rank correlation, small step with removal")
    panel.legend(title="experiment (metasmoothness)", fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
