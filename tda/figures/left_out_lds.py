"""LDS by how much is left out, of the same run and with other seeds, as a picture."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tda.figures.style import GREY, lines_of, styled
from tda.methods.catalogue import method_title

_MEASURES = {"lds_run": "scores of one run", "lds_means": "means over runs"}
_REFERENCES = {"random": "random scores", "retraining": "retrainings of other runs"}

_APART = 1.03
"""Methods stand beside each other at each number left out, each so many times as far right as the one before."""


@styled()
def draw_left_out(table: pd.DataFrame) -> Figure:
    """LDS against the number of left-out examples, a row of panels for each kind of retrainings, a curve for each method.

    Left: one run's scores; right: means over runs. Rows that differ in members, subsets or checkpoints are points of one curve;
    where several are of one number, the last of the table is shown. Retrainings as predictions of each other are dashed.
    """
    estimands = sorted(set(table["estimand"]), reverse=True)
    figure = Figure(figsize=(10.5, 3.6 * len(estimands) + 0.4), layout="constrained")
    panels = figure.subplots(len(estimands), len(_MEASURES), sharex=True, sharey=True, squeeze=False)
    methods = list(dict.fromkeys(table["method"]))
    styles = lines_of([method for method in methods if method not in _REFERENCES])
    for row, estimand in zip(panels, estimands, strict=True):
        for panel, (measure, title) in zip(row, _MEASURES.items(), strict=True):
            for number, method in enumerate(methods):
                rows = table[(table["method"] == method) & (table["estimand"] == estimand)]
                rows = rows.drop_duplicates("left_out", keep="last").sort_values("left_out").dropna(subset=measure)
                errors = np.stack((rows[measure] - rows[f"{measure}_low"], rows[f"{measure}_high"] - rows[measure])).clip(0)
                style = styles.get(method, {"color": GREY, "marker": "o"})
                style = style | {"linestyle": "--" if method in _REFERENCES else "-"}
                label = _REFERENCES.get(method) or method_title(method)
                places = rows["left_out"] * _APART ** (number - (len(methods) - 1) / 2)
                panel.errorbar(places, rows[measure], errors, markersize=3, capsize=2, label=label, **style)
            panel.set_xscale("log")
            counts = sorted(set(table["left_out"]))
            panel.set_xticks(counts, map(str, counts))
            panel.set_xticks([], minor=True)
            panel.set(title=f"{estimand}: {title}")
            panel.axhline(0, color="grey", linewidth=0.6)
        row[0].set_ylabel("linear datamodeling score")
    for panel in panels[-1]:
        panel.set_xlabel("training examples left out")
    panels[0, -1].legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
