"""Pictures of single attributions: a test image, and the training images that helped and harmed it most."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda.data.kinds import Kind, shown_inputs
from tda.data.splits import Split
from tda.data.tasks import Task
from tda.figures.saving import drawable, shortened_file
from tda.figures.style import styled
from tda.methods.catalogue import means_helpful, method_title
from tda.statistics.extremes import SHOWN, extreme_examples
from tda.statistics.pair_statistics import PairStatistics

# Layout in inches, fixed so that rows of all methods line up whatever is written beside them.
_SIDE, _GAP = 1.15, 0.25
_PITCH = _SIDE + _GAP
_TOP, _ROW, _REASON = 0.6, 1.95, 0.35
_BLOCKS = (2.25, 2.25 + SHOWN * _PITCH + 0.35)
_TEXT_WIDTH, _LONGEST_TEXT = 24, 190
"""Characters of a text in a line, and in all."""
_LONGEST_FILE = 26
"""Characters of a file's name that fit above a picture."""
_HEADINGS = {
    True: ("most helpful: the test loss would be higher without it", "most harmful: the test loss would be lower without it"),
    False: ("most alike, which need not help", "least alike, which need not harm"),
}
"""Of both blocks, by whether a positive score means helpful."""


@dataclass(frozen=True)
class Gallery:
    """What a picture is drawn from: the task, its examples, and the label (n_test, ...) that most seeds predict."""

    task: Task
    train: Split
    test: Split
    predicted: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        """Which test examples (n_test,) bool most seeds get wrong."""
        return self.task.objective.correct(torch.from_numpy(self.predicted), self.test.labels).numpy() < 1

    def label_text(self, label: object) -> str:
        """A label in words; one for each token has none that fits beside a picture."""
        return drawable(self.task.class_names[int(label)]) if np.ndim(label) == 0 else ""


@dataclass(frozen=True)
class Panel:
    """A square on the canvas, in inches from its upper left corner, and the letters of its texts, in points."""

    left: float
    top: float
    side: float
    heading_size: float
    file_size: float
    caption_size: float

    @property
    def middle(self) -> float:
        """Where its texts are centred."""
        return self.left + self.side / 2


@styled()
def draw_example(gallery: Gallery, methods: Sequence[PairStatistics], position: int, reason: str = "") -> Figure:
    """A figure of one test example (its position in the test split) and, in a row a method, its extreme training examples.

    Methods of which positive means helpful come first, those of which it means alike below them, under headings of their own.
    reason: why this test example was chosen.
    """
    groups = [(helpful, [one for one in methods if means_helpful(one.method) == helpful]) for helpful in (True, False)]
    groups = [(helpful, members) for helpful, members in groups if members]
    start = _REASON if reason else 0.0
    width = _BLOCKS[-1] + SHOWN * _PITCH
    height = start + sum(_TOP + len(members) * _ROW for _, members in groups)
    figure = Figure(figsize=(width, height))
    # All is drawn on one pair of axes that counts inches: a pair for each of the many panels takes seconds.
    canvas = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    canvas.set_axis_off()
    _draw_test_example(canvas, gallery, position, start + _TOP)
    for helpful, members in groups:
        for left, heading in zip(_BLOCKS, _HEADINGS[helpful], strict=True):
            canvas.text(left + (SHOWN * _PITCH - _GAP) / 2, start + 0.12, heading, ha="center", va="top", fontsize=11)
        for row, method in enumerate(members):
            _draw_row(canvas, gallery, method, position, start + _TOP + row * _ROW)
        start += _TOP + len(members) * _ROW
    if reason:
        canvas.text(0.15, 0.1, f"Chosen as {reason}.", ha="left", va="top", fontsize=11, weight="bold")
    return figure


def _draw_row(canvas: Axes, gallery: Gallery, method: PairStatistics, position: int, top: float) -> None:
    """A method's name, and its extreme training examples in both blocks."""
    title = textwrap.fill(method_title(method.method), width=18)
    canvas.text(_BLOCKS[0] - 0.3, top + _SIDE / 2, title, rotation=90, ha="center", va="center", weight="bold")
    for left, extremes in zip(_BLOCKS, extreme_examples(method.mean[:, position]), strict=True):
        for rank, train_position in enumerate(extremes):
            panel = Panel(left + rank * _PITCH, top, _SIDE, heading_size=8, file_size=5.5, caption_size=8)
            _draw_training_example(canvas, panel, gallery, method, train_position, position)


def _draw_test_example(canvas: Axes, gallery: Gallery, position: int, top: float) -> None:
    test = gallery.test
    true, predicted = gallery.label_text(test.labels[position]), gallery.label_text(gallery.predicted[position])
    caption = f"class: {true}\npredicted: {predicted}" if true else ""
    panel = Panel(0.15, top, 1.4, heading_size=11, file_size=6.5, caption_size=9)
    draw_panel(canvas, panel, gallery.task.kind, test, position, f"test #{int(test.indices[position])}", caption)


def _draw_training_example(canvas: Axes, panel: Panel, gallery: Gallery, method: PairStatistics, row: int, column: int) -> None:
    train = gallery.train
    heading = f"{gallery.label_text(train.labels[row])} (#{int(train.indices[row])})".lstrip()
    numbers = (method.mean[row, column], method.std[row, column], method.q_value[row, column])
    caption = "mean {:.3g}\nstd {:.3g}\nq {:.3g}".format(*numbers)
    draw_panel(canvas, panel, gallery.task.kind, train, row, heading, caption)


def draw_panel(canvas: Axes, panel: Panel, kind: Kind, split: Split, position: int, heading: str, caption: str) -> None:
    """Draw an example, above it the heading and the name of its file if it has one, below it the caption."""

    def write(text: str, top: float, **options: object) -> None:
        canvas.text(panel.middle, top, text, ha="center", parse_math=False, **options)

    _show(canvas, panel, kind, split, position)
    # Points, of which an inch has 72, between the heading and the picture; more where a file is named between them.
    gap = 3 if split.files is None else 10
    write(heading, panel.top - gap / 72, va="baseline", fontsize=panel.heading_size)
    if split.files is not None:
        name = shortened_file(split.files[position], _LONGEST_FILE)
        write(name, panel.top - 3 / 72, va="bottom", fontsize=panel.file_size)
    write(caption, panel.top + 1.04 * panel.side, va="top", fontsize=panel.caption_size, linespacing=1.1)


def _show(canvas: Axes, panel: Panel, kind: Kind, split: Split, position: int) -> None:
    """Draw an example as its kind shows it to a person: a picture, a text, or a picture with a text over its lower end."""
    picture, text = shown_inputs(kind, split.inputs, position)
    if picture is not None:
        # A picture that is no square keeps its shape, in the panel's middle.
        height, width = (panel.side * length / max(picture.shape[:2]) for length in picture.shape[:2])
        left, top = panel.middle - width / 2, panel.top + (panel.side - height) / 2
        colours = {"cmap": "gray", "vmin": 0, "vmax": 1} if picture.ndim == 2 else {}
        canvas.imshow(picture, extent=(left, left + width, top + height, top), aspect="auto", **colours)
    if text is not None:
        down, alignment = (0.5, "center") if picture is None else (0.98, "bottom")
        shortened = textwrap.shorten(drawable(text), _LONGEST_TEXT, placeholder=" …")
        wrapped = "\n".join(textwrap.wrap(shortened, _TEXT_WIDTH))
        top = panel.top + down * panel.side
        box = None if picture is None else {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1}
        canvas.text(panel.middle, top, wrapped, ha="center", va=alignment, fontsize=6, parse_math=False, bbox=box)
