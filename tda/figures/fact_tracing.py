"""Two questions about facts side by side: which texts state the answer, and which make the model give it."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda.facts.removal_rows import OWN_TITLES
from tda.figures.style import BLACK, BLUE, GREY, VERMILION, styled
from tda.methods.catalogue import method_title


@styled()
def draw_fact_tracing(finding: pd.DataFrame, falling: pd.DataFrame | None) -> Figure:
    """A line a method, in the same order in every panel: recall and mean reciprocal rank of the stating texts, and the fall of
    the answer's log-probability where a method's texts are left out, all with 95 % intervals.

    finding: as fact_tracing.csv; falling: as fact_removal.csv, None where nothing was trained again. Methods stand by how well
    they find, the best first; a hollow mark is the fall where as many significant, or not significant, texts are left out.
    """
    names = finding.sort_values("mrr", ascending=False, kind="stable")["method"].tolist()
    panels_wanted = 2 if falling is None else 3
    figure = Figure(figsize=(2.4 + 2.7 * panels_wanted, 1.4 + 0.32 * len(names)), layout="constrained")
    panels = figure.subplots(1, panels_wanted, sharey=True)
    found = finding.set_index("method").loc[names]
    _draw(panels[0], found, "mrr", BLUE, "mean reciprocal rank")
    panels[0].set_title("which texts state the answer?")
    _draw(panels[1], found, "recall", BLUE, f"recall among the first {int(found['found'].iloc[0])}")
    if falling is not None:
        _draw_falls(panels[2], names, falling)
    panels[0].set_yticks(range(len(names)), [OWN_TITLES.get(name, method_title(name)) for name in names])
    panels[0].invert_yaxis()
    for panel in panels:
        panel.grid(axis="x")
        panel.set_axisbelow(True)
    return figure


def _draw(panel: Axes, rows: pd.DataFrame, column: str, colour: str, label: str) -> None:
    errors = np.stack((rows[column] - rows[f"{column}_low"], rows[f"{column}_high"] - rows[column])).clip(0)
    panel.errorbar(rows[column], range(len(rows)), xerr=errors, fmt="o", markersize=4, capsize=2, color=colour)
    panel.set(xlabel=label, xlim=(-0.03, 1.03))


def _draw_falls(panel: Axes, names: list[str], falling: pd.DataFrame) -> None:
    """The last panel: of the largest number of texts that were left out."""
    rows = falling[falling["removed"] == falling["removed"].max()]
    for selection, marker, face, shift in (
        ("highest", "o", VERMILION, 0.0),
        ("-", "o", BLACK, 0.0),
        ("significant", "s", "white", -0.2),
        ("not_significant", "D", "white", 0.2),
    ):
        chosen = rows[(rows["selection"] == selection) & rows["method"].isin(names)]
        if len(chosen):
            places = [names.index(name) + shift for name in chosen["method"]]
            errors = np.stack((chosen["fall"] - chosen["fall_low"], chosen["fall_high"] - chosen["fall"])).clip(0)
            label = {"significant": "significant", "not_significant": "not significant"}.get(selection)
            style = {"markersize": 4, "capsize": 2, "markerfacecolor": face, "label": label}
            colour = BLACK if selection == "-" else VERMILION
            panel.errorbar(chosen["fall"], places, xerr=errors, fmt=marker, color=colour, **style)
    panel.axvline(0, color=GREY, linewidth=0.8)
    panel.set(xlabel=f"fall of the answer's log-probability, nats,\n{int(rows['removed'].iloc[0])} texts left out")
    panel.set_title("which texts make the model give it?")
    if panel.get_legend_handles_labels()[0]:
        panel.legend()
