"""The figure of one explained test image: its most helpful training images, their maps, and what the seeds agree on."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from tda.data.splits import Split
from tda.features.influence_maps import Pairs
from tda.features.reductions import reduce_channels
from tda.features.seed_maps import PixelStatistics
from tda.features.subjects import Subject
from tda.figures.panels import RATIO_END, colour_scale, grid, pixels, show_image, show_overlay, show_signed, title
from tda.figures.saving import shortened_file
from tda.figures.style import styled

_ROWS = ("training\nimage", "mean map\nover seeds", "std\nover seeds", "|mean| / std")
_ROWS_OF_ONE_SEED = ("training\nimage", "map")
_LONGEST_FILE = 20
"""Characters of a file's name that fit above a panel."""


@dataclass(frozen=True)
class Explained:
    """One test image: its pairs' positions, what the seeds say of their pixels, its Grad-CAM (h, w) and predicted label."""

    subject: Subject
    pairs: Pairs
    rows: Tensor
    statistics: PixelStatistics
    table: pd.DataFrame
    cam: np.ndarray
    predicted: int


@styled()
def draw_explained(explained: Explained, reduction: str, absolute: bool) -> Figure:
    """On the left the test image and its Grad-CAM; then a column a training image: it, its map, the spread, their ratio."""
    subject = explained.subject
    rows = _ROWS if explained.statistics.std is not None else _ROWS_OF_ONE_SEED
    figure, panels = grid(len(rows), 1 + len(explained.rows))
    test = int(explained.pairs.test[explained.rows[0]])
    image = pixels(subject.test.inputs[test], subject.mean, subject.std)
    show_image(panels[0, 0], image)
    label, read_as = subject.label_name(int(subject.test.labels[test])), subject.label_name(explained.predicted)
    name = _file_line(subject.test, test)
    title(panels[0, 0], f"test #{int(subject.test.indices[test])}: {label}\n{name}read as {read_as}")
    show_overlay(panels[1, 0], image, explained.cam)
    title(panels[1, 0], "Grad-CAM")
    for column, row in zip(panels.T[1:], explained.rows.tolist(), strict=True):
        _draw_training_image(column, explained, row, reduction, absolute)
    for row, kind in zip(panels[1:], ("absolute" if absolute else "signed", "absolute", "ratio"), strict=False):
        colour_scale(figure, row, kind)
    for panel, name in zip(panels[:, 1], rows, strict=True):
        panel.text(-0.06, 0.5, name, rotation=90, ha="right", va="center", transform=panel.transAxes, fontsize=8)
    return figure


def _draw_training_image(column: np.ndarray, explained: Explained, row: int, reduction: str, absolute: bool) -> None:
    subject, entry = explained.subject, explained.table.iloc[row]
    image = pixels(subject.train.inputs[int(explained.pairs.train[row])], subject.mean, subject.std)
    show_image(column[0], image)
    spread = f" ± {entry.score_std:.3g}" if len(column) > 2 else ""
    name = _file_line(subject.train, int(explained.pairs.train[row]))
    title(column[0], f"{entry.train_class} #{entry.train_idx}\n{name}{entry.score_mean:.3g}{spread}")
    mean = torch.from_numpy(explained.statistics.mean[row])
    if absolute:
        show_overlay(column[1], image, reduce_channels(mean, reduction).numpy())
    else:
        show_signed(column[1], image, reduce_channels(mean, reduction, absolute=False).numpy())
    if len(column) == 2:
        return
    spread = reduce_channels(torch.from_numpy(explained.statistics.std[row]), reduction)
    show_overlay(column[2], image, spread.numpy())
    _draw_ratio(column[3], explained.statistics.signal_to_noise[row].max(axis=0))


def _file_line(split: Split, position: int) -> str:
    return "" if split.files is None else f"{shortened_file(split.files[position], _LONGEST_FILE)}\n"


def _draw_ratio(panel: Axes, ratio: np.ndarray) -> None:
    panel.imshow(np.minimum(ratio, RATIO_END), cmap="viridis", vmin=0, vmax=RATIO_END, interpolation="nearest")
    title(panel, f"{(ratio > 2).mean():.0%} above 2")
