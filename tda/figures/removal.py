"""The fall of the margin by removal, as a picture."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tda.figures.style import lines_of, styled
from tda.methods.catalogue import method_title


@styled()
def draw_removal(table: pd.DataFrame) -> Figure:
    """Fall of the margin against the number of removed examples, a curve for each method, with intervals."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    panel = figure.subplots()
    styles = lines_of(sorted(set(table["method"])))
    for method, rows in table.groupby("method"):
        errors = np.stack((rows["margin_fall"] - rows["low"], rows["high"] - rows["margin_fall"])).clip(0)
        panel.errorbar(rows["removed"], rows["margin_fall"], errors, capsize=2, label=method_title(method), **styles[method])
    panel.set(xlabel="training examples removed, most helpful first", ylabel="fall of the margin")
    panel.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
