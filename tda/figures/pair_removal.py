"""Images with texts: how far target pairs fall where pairs are left out, and a gallery of the pairs that help them most."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda.data.splits import Split
from tda.data.tasks import Task
from tda.debiasing.removal import RANDOM
from tda.figures.examples import Panel, draw_panel
from tda.figures.style import BLACK, BLUE, GREY, VERMILION, styled
from tda.methods.catalogue import means_helpful, method_title
from tda.statistics.target_scores import TargetScores

_BESIDE = 5
"""Training pairs beside each target."""
# Layout of the gallery in inches.
_SIDE, _GAP, _MARGIN, _TOP, _PITCH = 1.3, 0.3, 0.25, 0.55, 2.15


@styled()
def draw_pair_removal(table: pd.DataFrame) -> Figure:
    """Falls of the targets' cosine and reciprocal rank with 95 % intervals, a line a method, the largest fall first.

    table: as pair_removal.csv; of it the rows of the most pairs left out.
    """
    rows = table[table["removed"] == table["removed"].max()].sort_values("cosine_fall", ascending=False, kind="stable")
    figure = Figure(figsize=(7.6, 1.3 + 0.32 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = [_title(method) for method in rows["method"]]
    what = f"{int(rows['removed'].iloc[0])} training pairs left out"
    for panel, column, label in zip(
        panels,
        ("cosine_fall", "reciprocal_rank_fall"),
        ("fall of the cosine of image and text", "fall of 1 / rank"),
        strict=True,
    ):
        _draw_falls(panel, rows, column)
        panel.set(xlabel=f"{label},\n{what}")
    panels[0].set_yticks(range(len(rows)), titles)
    panels[0].invert_yaxis()
    return figure


def _draw_falls(panel: Axes, rows: pd.DataFrame, column: str) -> None:
    values = rows[column]
    errors = np.stack((values - rows[f"{column}_low"], rows[f"{column}_high"] - values)).clip(0)
    for place, method in enumerate(rows["method"]):
        known = method != RANDOM
        colour = BLACK if not known else VERMILION if means_helpful(method) else BLUE
        error = errors[:, place : place + 1]
        panel.errorbar(values.iloc[place], place, xerr=error, fmt="o", markersize=4, capsize=2, color=colour)
    panel.axvline(0, color=GREY, linewidth=0.8)
    panel.grid(axis="x")
    panel.set_axisbelow(True)


def _title(method: str) -> str:
    return "random pairs" if method == RANDOM else method_title(method)


@styled()
def draw_helpful_pairs(task: Task, train: Split, test: Split, named: TargetScores, targets: np.ndarray, shown: int) -> Figure:
    """A row a target: the pair itself, and the training pairs with the largest scores, with mean, std over seeds and q."""
    rows, columns = min(shown, len(targets)), min(_BESIDE, len(train))
    width = 2 * _MARGIN + (columns + 1) * (_SIDE + _GAP) + _GAP
    height = _TOP + rows * _PITCH
    figure = Figure(figsize=(width, height))
    canvas = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    canvas.set_axis_off()
    canvas.text(_MARGIN + _SIDE / 2, 0.1, "target", ha="center", va="top", fontsize=10)
    heading = "the training pairs most helpful to it" if means_helpful(named.method) else "the training pairs most like it"
    middle = _left(1) + (columns * (_SIDE + _GAP) - _GAP) / 2
    canvas.text(middle, 0.1, f"{heading}, by {method_title(named.method)}", ha="center", va="top", fontsize=10)
    order = np.argsort(-named.scores, axis=0, kind="stable")[:columns]
    for row in range(rows):
        top = _TOP + row * _PITCH
        panel = Panel(_MARGIN, top, _SIDE, heading_size=8, file_size=5, caption_size=7)
        draw_panel(canvas, panel, task.kind, test, int(targets[row]), f"#{int(test.indices[targets[row]])}", "")
        for place, pair in enumerate(order[:, row]):
            panel = Panel(_left(place + 1), top, _SIDE, heading_size=8, file_size=5, caption_size=7)
            numbers = (named.mean[pair, row], named.std[pair, row], named.q[pair, row])
            caption = "mean {:.3g}, std {:.3g}\nq {:.3g}".format(*numbers)
            draw_panel(canvas, panel, task.kind, train, int(pair), f"#{int(train.indices[pair])}", caption)
    return figure


def _left(column: int) -> float:
    """Where a column begins; the targets' own stands apart."""
    return _MARGIN + column * (_SIDE + _GAP) + (_GAP if column else 0)
