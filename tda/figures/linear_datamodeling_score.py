"""LDS against compute time, as a picture."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tda.figures.style import lines_of, styled
from tda.methods.catalogue import method_title


@styled()
def draw_lds(table: pd.DataFrame) -> Figure:
    """LDS against compute time, a curve for each method over ensemble sizes, with intervals.

    Against the number of members where a method's time is not known. Dashed: what an exact prediction would reach.
    """
    judged = table[table["members"] > 0]
    place = "seconds" if (judged["seconds"] > 0).all() else "members"
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    panel = figure.subplots()
    styles = lines_of(sorted(set(judged["method"])))
    for method, rows in judged.groupby("method"):
        errors = np.stack((rows["lds"] - rows["low"], rows["high"] - rows["lds"])).clip(0)
        panel.errorbar(rows[place], rows["lds"], errors, capsize=2, label=method_title(method), **styles[method])
    for _, row in table[table["method"] == "exact_prediction"].iterrows():
        panel.axhline(row["lds"], color="black", linestyle="--", linewidth=1, label="noise ceiling")
    panel.set_xscale("log")
    panel.axhline(0, color="grey", linewidth=0.6)
    panel.set(xlabel={"seconds": "seconds of training and scoring"}.get(place, place), ylabel="linear datamodeling score")
    panel.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
