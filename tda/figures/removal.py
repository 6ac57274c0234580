"""The fall of the margin by removal, as a picture."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tda.figures.style import BLUE, GREY, lines_of, styled
from tda.methods.catalogue import method_title


@styled()
def draw_removal(table: pd.DataFrame) -> Figure:
    """Fall of the margin against the number of removed examples, a curve for each method, with intervals.

    Of one number alone: a point for each method, the largest fall above.
    """
    return _points(table) if table["removed"].nunique() == 1 else _curves(table)


def _curves(table: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    panel = figure.subplots()
    styles = lines_of(sorted(set(table["method"])))
    for method, rows in table.groupby("method"):
        panel.errorbar(
            rows["removed"], rows["margin_fall"], _lengths(rows), capsize=2, label=method_title(method), **styles[method]
        )
    panel.set(xlabel="training examples removed, most helpful first", ylabel="fall of the margin")
    panel.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _points(table: pd.DataFrame) -> Figure:
    rows = table.sort_values("margin_fall", ignore_index=True)
    figure = Figure(figsize=(6.4, 1.1 + 0.28 * len(rows)), layout="constrained")
    panel = figure.subplots()
    panel.errorbar(rows["margin_fall"], rows.index, xerr=_lengths(rows), fmt="o", color=BLUE, capsize=2)
    panel.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
    panel.set_yticks(rows.index, [method_title(method) for method in rows["method"]])
    panel.set(
        xlabel=f"fall of the margin without {rows['removed'][0]} training examples",
        ylim=(-0.6, len(rows) - 0.4),
    )
    return figure


def _lengths(rows: pd.DataFrame) -> np.ndarray:
    """Of the intervals, below and above."""
    return np.stack((rows["margin_fall"] - rows["low"], rows["high"] - rows["margin_fall"])).clip(0)
