"""LDS by reliability, as a picture."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tda.figures.style import lines_of, styled
from tda.methods.catalogue import method_title


@styled()
def draw_reliability(pairs: pd.DataFrame, tests: pd.DataFrame) -> Figure:
    """LDS of reliable pairs, of the others and of the controls; beside it, of test examples by share of reliable pairs."""
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    methods = list(dict.fromkeys(pairs["method"]))
    names = list(dict.fromkeys(pairs["pairs"]))
    for number, name in enumerate(names):
        rows = pairs[pairs["pairs"] == name].set_index("method").loc[methods]
        errors = np.stack((rows["lds"] - rows["low"], rows["high"] - rows["lds"])).clip(0)
        places = np.arange(len(methods)) + (number - (len(names) - 1) / 2) * 0.15
        left.errorbar(places, rows["lds"], errors, fmt="o", markersize=3, capsize=1.5, linewidth=1, label=name)
    left.set_xticks(range(len(methods)), [method_title(method) for method in methods], rotation=60, ha="right", fontsize=8)
    left.set(ylabel="linear datamodeling score", title="pairs, all others set to 0")
    left.legend(fontsize=7, frameon=False)
    styles = lines_of(list(dict.fromkeys(tests["method"])))
    for method, rows in tests.groupby("method", sort=False):
        errors = np.stack((rows["lds"] - rows["low"], rows["high"] - rows["lds"])).clip(0)
        label = method_title(method)
        right.errorbar(rows["share_reliable"], rows["lds"], errors, markersize=3, capsize=1.5, label=label, **styles[method])
    right.set(xlabel="share of reliable pairs (q < 0.05)", title="test examples, in quarters")
    right.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    for panel in (left, right):
        panel.axhline(0, color="grey", linewidth=0.6)
    return figure
