"""Pictures of single attributions: a test image, and the training images that helped and harmed it most."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda.data.kinds import shown_inputs
from tda.data.splits import Split
from tda.data.tasks import Task
from tda.figures.saving import drawable, shortened_file
from tda.methods.catalogue import method_title
from tda.statistics.extremes import SHOWN, extreme_examples
from tda.statistics.pair_statistics import PairStatistics

# Layout in inches, fixed so that rows of all methods line up whatever is written beside them.
_SIDE, _GAP = 1.15, 0.25
_PITCH = _SIDE + _GAP
_TOP, _ROW = 0.6, 1.95
_BLOCKS = (2.25, 2.25 + SHOWN * _PITCH + 0.35)
_TEXT_WIDTH, _LONGEST_TEXT = 24, 190
"""Characters of a text in a line, and in all."""
_LONGEST_FILE = 26
"""Characters of a file's name that fit above a picture."""
_HEADINGS = ("most helpful: the test loss would be higher without it", "most harmful: the test loss would be lower without it")


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


def draw_example(gallery: Gallery, methods: Sequence[PairStatistics], position: int) -> Figure:
    """A figure of one test image (its position in the test split) and, in a row a method, its extreme training images."""
    width, height = _BLOCKS[-1] + SHOWN * _PITCH, _TOP + len(methods) * _ROW
    figure = Figure(figsize=(width, height))
    _draw_test_image(figure, gallery, position)
    for left, heading in zip(_BLOCKS, _HEADINGS, strict=True):
        middle = left + (SHOWN * _PITCH - _GAP) / 2
        figure.text(middle / width, 1 - 0.12 / height, heading, ha="center", va="top", fontsize=11)
    for row, method in enumerate(methods):
        top = _TOP + row * _ROW
        title = textwrap.fill(method_title(method.method), width=18)
        place = (_BLOCKS[0] - 0.3) / width, 1 - (top + _SIDE / 2) / height
        figure.text(*place, title, rotation=90, ha="center", va="center", weight="bold")
        for left, extremes in zip(_BLOCKS, extreme_examples(method.mean[:, position]), strict=True):
            for rank, train_position in enumerate(extremes):
                panel = _add_panel(figure, left + rank * _PITCH, top, _SIDE)
                _draw_training_image(panel, gallery, method, train_position, position)
    return figure


def _add_panel(figure: Figure, left: float, top: float, side: float) -> Axes:
    """A square panel without frame, its place in inches from the figure's upper left corner."""
    width, height = figure.get_size_inches()
    panel = figure.add_axes((left / width, 1 - (top + side) / height, side / width, side / height))
    panel.set_axis_off()
    return panel


def _draw_test_image(figure: Figure, gallery: Gallery, position: int) -> None:
    test = gallery.test
    panel = _add_panel(figure, left=0.15, top=_TOP, side=1.4)
    _show(panel, gallery, test, position)
    panel.set_title(f"test #{int(test.indices[position])}", fontsize=11, pad=3 + _title_pad(test))
    _write_file(panel, test, position, fontsize=6.5)
    true, predicted = gallery.label_text(test.labels[position]), gallery.label_text(gallery.predicted[position])
    caption = f"class: {true}\npredicted: {predicted}" if true else ""
    panel.text(0.5, -0.04, caption, ha="center", va="top", transform=panel.transAxes, fontsize=9, parse_math=False)


def _draw_training_image(panel: Axes, gallery: Gallery, method: PairStatistics, row: int, column: int) -> None:
    train = gallery.train
    _show(panel, gallery, train, row)
    heading = f"{gallery.label_text(train.labels[row])} (#{int(train.indices[row])})".lstrip()
    panel.set_title(heading, fontsize=8, pad=_title_pad(train), parse_math=False)
    _write_file(panel, train, row, fontsize=5.5)
    panel.text(
        0.5, -0.04,
        f"mean {method.mean[row, column]:.3g}\nstd {method.std[row, column]:.3g}\nq {method.q_value[row, column]:.3g}",
        ha="center", va="top", transform=panel.transAxes, fontsize=8, linespacing=1.1,
    )  # fmt: skip


def _title_pad(split: Split) -> float:
    """Points between a title and its picture: room for the name of a file where there is one."""
    return 3 if split.files is None else 11


def _write_file(panel: Axes, split: Split, position: int, fontsize: float) -> None:
    """Write the name of an example's file, if it has one, between its title and its picture."""
    if split.files is not None:
        name = shortened_file(split.files[position], _LONGEST_FILE)
        place = {"xy": (0.5, 1), "xycoords": "axes fraction", "xytext": (0, 3), "textcoords": "offset points"}
        panel.annotate(name, **place, ha="center", va="bottom", fontsize=fontsize, parse_math=False)


def _show(panel: Axes, gallery: Gallery, split: Split, position: int) -> None:
    """Draw an example as its kind shows it to a person: a picture, a text, or a picture with a text below it."""
    picture, text = shown_inputs(gallery.task.kind, split.inputs, position)
    if picture is not None:
        panel.imshow(picture, **({"cmap": "gray", "vmin": 0, "vmax": 1} if picture.ndim == 2 else {}))
    if text is not None:
        place = (0.5, 0.5, "center") if picture is None else (0.5, 0.02, "bottom")
        shortened = textwrap.shorten(drawable(text), _LONGEST_TEXT, placeholder=" …")
        wrapped = "\n".join(textwrap.wrap(shortened, _TEXT_WIDTH))
        panel.text(*place[:2], wrapped, ha="center", va=place[2], fontsize=6, transform=panel.transAxes, parse_math=False)
