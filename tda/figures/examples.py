"""Pictures of single attributions: a test image, and the training images that helped and harmed it most."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda.data.splits import Split
from tda.data.tasks import Task
from tda.figures.analysis import method_title
from tda.statistics.pair_statistics import SIGNIFICANCE_LEVEL, PairStatistics

SHOWN = 5
# Layout in inches, fixed so that rows of all methods line up whatever is written beside them.
_SIDE, _GAP = 1.15, 0.25
_PITCH = _SIDE + _GAP
_TOP, _ROW = 0.6, 1.95
_BLOCKS = (2.25, 2.25 + SHOWN * _PITCH + 0.35)
_HEADINGS = ("most helpful: the test loss would be higher without it", "most harmful: the test loss would be lower without it")


@dataclass(frozen=True)
class Gallery:
    """What a picture is drawn from: the task, its examples, and the label (n_test,) that most seeds predict."""

    task: Task
    train: Split
    test: Split
    predicted: np.ndarray


def majority(predicted: np.ndarray) -> np.ndarray:
    """The label (n_test,) that most seeds predict, from labels (seeds, n_test); the smallest one on a tie."""
    votes = np.stack([(predicted == label).sum(axis=0) for label in range(predicted.max() + 1)])
    return votes.argmax(axis=0)


def choose_examples(methods: Sequence[PairStatistics], wrong: np.ndarray) -> list[int]:
    """Positions of the test images worth a picture: the most and the least reliably attributed, and one that is wrong.

    Reliable means a large share of training examples with q below the significance level, averaged over the methods; on
    a tie, a large mean |t|. Of the misclassified ones (`wrong`, (n_test,) bool) the most reliable is taken; of equals the
    first. Every position appears once.
    """
    share = np.mean([(method.q_value < SIGNIFICANCE_LEVEL).mean(axis=0) for method in methods], axis=0)
    size = np.mean([np.sqrt(method.num_seeds) * method.signal_to_noise.mean(axis=0) for method in methods], axis=0)
    most_reliable_first = np.lexsort((np.arange(len(share)), -size, -share))
    least_reliable_first = np.lexsort((np.arange(len(share)), size, share))
    chosen = [most_reliable_first[0], least_reliable_first[0], *most_reliable_first[wrong[most_reliable_first]][:1]]
    return list(dict.fromkeys(int(position) for position in chosen))


def extreme_examples(mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the up to five most helpful (mean > 0) and most harmful (mean < 0) training examples, extremes first.

    mean: (n_train,), positive = helpful. Of equals the first comes first.
    """
    helpful, harmful = np.argsort(-mean, kind="stable")[:SHOWN], np.argsort(mean, kind="stable")[:SHOWN]
    return helpful[mean[helpful] > 0], harmful[mean[harmful] < 0]


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
    names, test = gallery.task.class_names, gallery.test
    panel = _add_panel(figure, left=0.15, top=_TOP, side=1.4)
    _show(panel, test.images[position].numpy(), gallery.task)
    panel.set_title(f"test #{int(test.indices[position])}", fontsize=11)
    caption = f"class: {names[int(test.labels[position])]}\npredicted: {names[int(gallery.predicted[position])]}"
    panel.text(0.5, -0.04, caption, ha="center", va="top", transform=panel.transAxes, fontsize=9)


def _draw_training_image(panel: Axes, gallery: Gallery, method: PairStatistics, row: int, column: int) -> None:
    train = gallery.train
    _show(panel, train.images[row].numpy(), gallery.task)
    panel.set_title(f"{gallery.task.class_names[int(train.labels[row])]} (#{int(train.indices[row])})", fontsize=8, pad=3)
    panel.text(
        0.5, -0.04,
        f"mean {method.mean[row, column]:.3g}\nstd {method.std[row, column]:.3g}\nq {method.q_value[row, column]:.3g}",
        ha="center", va="top", transform=panel.transAxes, fontsize=8, linespacing=1.1,
    )  # fmt: skip


def _show(panel: Axes, image: np.ndarray, task: Task) -> None:
    """Draw a normalised image (c, h, w) as it looked before normalisation."""
    mean, std = np.reshape(task.mean, (-1, 1, 1)), np.reshape(task.std, (-1, 1, 1))
    pixels = np.clip(image * std + mean, 0, 1)
    if len(pixels) == 1:
        panel.imshow(pixels[0], cmap="gray", vmin=0, vmax=1)
    else:
        panel.imshow(pixels.transpose(1, 2, 0))
