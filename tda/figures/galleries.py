"""Galleries: training examples beside each other, each as its kind shows it to a person, with what is said of it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from tda.data.kinds import Kind
from tda.data.splits import Split
from tda.data.tasks import Task
from tda.debiasing.rankings import NOT_ANY, Ranking
from tda.debiasing.selections import lowest
from tda.figures.examples import Panel, draw_panel
from tda.figures.saving import drawable
from tda.figures.style import styled

# Layout in inches.
_COLUMNS, _SIDE, _GAP, _MARGIN, _TOP = 10, 1.15, 0.3, 0.25, 0.75
_CAPTION_LINE = 0.13


@styled()
def draw_gallery(
    kind: Kind, split: Split, positions: Sequence[int], title: str, headings: Sequence[str], captions: Sequence[str]
) -> Figure:
    """Examples of a split, at these positions and in this order, ten a row; a heading above each and a caption below.

    The name of an example's file, where it has one, stands between its heading and its picture.
    """
    columns, rows = min(_COLUMNS, len(positions)), -(-len(positions) // _COLUMNS)
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    pitch = _SIDE + 0.35 + lines * _CAPTION_LINE + _GAP / 2
    width, height = 2 * _MARGIN + max(columns, 4) * (_SIDE + _GAP), _TOP + rows * pitch
    figure = Figure(figsize=(width, height))
    canvas = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    canvas.set_axis_off()
    canvas.text(width / 2, 0.12, drawable(title), ha="center", va="top", fontsize=11, parse_math=False)
    for place, (position, heading, caption) in enumerate(zip(positions, headings, captions, strict=True)):
        row, column = divmod(place, _COLUMNS)
        left, top = _MARGIN + _GAP / 2 + column * (_SIDE + _GAP), _TOP + row * pitch
        panel = Panel(left, top, _SIDE, heading_size=8, file_size=5.5, caption_size=7)
        draw_panel(canvas, panel, kind, split, position, drawable(heading), drawable(caption))
    return figure


def draw_first(task: Task, train: Split, ranking: Ranking, predicted: np.ndarray, shown: int) -> Figure:
    """The first training examples that a ranking takes: label and index above; prediction, truth where known, and value below.

    predicted: (n,) labels. The value is what the ranking goes by; the lowest goes first.
    """
    names = np.array([*task.class_names, "none"], dtype=str)
    taken = lowest(ranking.values, min(shown, len(train)))
    order = taken[np.argsort(ranking.values[taken], kind="stable")]
    captions = []
    for position in order:
        lines = [f"predicted: {names[predicted[position]]}"]
        if train.true_labels is not None:
            lines.append(f"truly: {names[int(train.true_labels[position])]}")
        captions.append("\n".join([*lines, f"{ranking.values[position]:.3g}"]))
    headings = [f"{names[int(train.labels[position])]} (#{int(train.indices[position])})" for position in order]
    words = [ranking.selection.replace("_", " "), *(part for part in (ranking.method, ranking.groups) if part != NOT_ANY)]
    return draw_gallery(task.kind, train, order.tolist(), f"first to go: {', '.join(words)}", headings, captions)
