"""Agreement of all methods with leave-one-out, as a picture."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda.figures.style import BLUE, GREY, VERMILION, styled
from tda.methods.catalogue import method_title

REFERENCE = "loo"
"""The method that the others are compared with."""

_SAME, _OTHER, _LOO_OF_OTHERS = BLUE, VERMILION, GREY
_PANELS = {
    "scores of a run": ("spearman_seed", "spearman_other_run"),
    "means over seeds": ("spearman_mean", "mean_of_halves"),
    "deviations over seeds": ("spearman_std", "std_of_halves"),
    "p-values": ("spearman_p_value", "p_value_of_halves"),
}
"""Title -> the column of agreement with LOO of the same runs, and that with LOO of other runs, in the table between runs."""


@styled()
def draw_agreement(with_loo: pd.DataFrame, between: pd.DataFrame) -> Figure:
    """Rank correlation with LOO of every method, those closest to LOO of the same run on top, a panel for each statistic.

    Filled: with LOO of the same runs, with its interval; 1 is LOO itself. Hollow: with LOO of other runs (of the other half of
    the seeds, where it is of a statistic over seeds), which LOO of one run itself reaches only up to the dashed line.
    Both tables: rows of one number of checkpoints, which the title tells. An undefined correlation has no point.
    """
    ordered = with_loo.sort_values("spearman_seed", na_position="first")
    others = between.set_index("method")
    figure = Figure(figsize=(11.5, 0.32 * len(ordered) + 1.9), layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharex=True, sharey=True)
    for panel, (title, (same, other)) in zip(panels, _PANELS.items(), strict=True):
        _draw_points(panel, ordered, same, others.loc[ordered["method"], other].to_numpy())
        of_loo = others.loc[REFERENCE, other]
        if np.isfinite(of_loo):
            panel.axvline(of_loo, color=_LOO_OF_OTHERS, linestyle="--", linewidth=1, label="LOO against LOO of other runs")
        panel.axvline(0, color="grey", linewidth=0.6)
        panel.set(title=title, xlabel="rank correlation with LOO")
    row = ordered.iloc[0]
    figure.suptitle(f"Agreement with leave-one-out: scores of {row['seeds']} seeds, {last_checkpoints(row['checkpoints'])}")
    panels[0].set_xlim(min(-0.25, panels[0].get_xlim()[0]), 1.04)
    panels[0].set_yticks(range(len(ordered)), [method_title(method) for method in ordered["method"]])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def last_checkpoints(count: int) -> str:
    """Over which of a run's checkpoints its score is averaged, in words."""
    return "the last checkpoint" if count == 1 else f"the last {count} checkpoints"


def _draw_points(panel: Axes, rows: pd.DataFrame, column: str, others: np.ndarray) -> None:
    places = np.arange(len(rows))
    values = rows[column].to_numpy()
    errors = np.stack((values - rows[f"{column}_low"], rows[f"{column}_high"] - values)).clip(0)
    panel.errorbar(
        values, places, xerr=errors, fmt="o", markersize=5, capsize=2, color=_SAME, label="against LOO of the same runs"
    )
    panel.plot(others, places, "o", markersize=5, markerfacecolor="none", color=_OTHER, label="against LOO of other runs")
    panel.grid(axis="y", linewidth=0.3)
