"""Figures of the shortcut study: where maps lie, as examples and as figures of merit."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from tda.data.splits import Split
from tda.data.tasks import Task
from tda.features.influence_maps import Pairs
from tda.figures.panels import colour_scale, grid, outline, pixels, show_image, show_overlay, title
from tda.figures.style import BLUE, VERMILION, styled
from tda.methods.catalogue import method_title

_BASELINES = {"input_gradient": "input gradient", "grad_cam": "Grad-CAM"}
_SHOWN = 4
_MERITS = {
    "area_under_curve": "area under the curve",
    "mass_share": "share of the map's mass",
    "largest_inside": "share of maps with\ntheir largest value there",
}


@dataclass(frozen=True)
class ShortcutExamples:
    """What the examples are drawn from; test is labelled as the patch's class, true_labels (n_test,) as they are."""

    task: Task
    train: Split
    test: Split
    true_labels: Tensor
    region: Tensor
    pairs: Pairs


def map_title(name: str) -> str:
    """What a map is called in figures."""
    return _BASELINES.get(name) or method_title(name)


@styled()
def draw_merits(table: pd.DataFrame, region: Tensor) -> Figure:
    """A panel for each figure of merit, a row for each map: points for single seeds and their mean map, with 95 % intervals."""
    area = float(region.double().mean())
    chance = {"area_under_curve": 0.5, "mass_share": area, "largest_inside": area}
    averaged = table[table.seeds_averaged].reset_index(drop=True)
    single = table[~table.seeds_averaged].reset_index(drop=True)
    figure = Figure(figsize=(9.6, 0.36 * len(averaged) + 1.35), layout="constrained")
    panels = figure.subplots(1, len(_MERITS), sharey=True)
    for panel, (merit, name) in zip(panels, _MERITS.items(), strict=True):
        _draw_points(panel, single, merit, -0.14, BLUE, "a single seed")
        _draw_points(panel, averaged, merit, 0.14, VERMILION, "mean over seeds")
        panel.axvline(chance[merit], color="black", linestyle="--", linewidth=1, label="chance")
        panel.set_xlabel(name)
        panel.set_xlim(-0.02, 1.02 if merit != "mass_share" else max(0.1, 1.15 * table[f"{merit}_high"].max()))
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(averaged)), [_row_title(row) for row in averaged.itertuples()])
    panels[0].set_ylim(len(averaged) - 0.5, -0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _draw_points(panel: Axes, rows: pd.DataFrame, merit: str, shift: float, colour: str, label: str) -> None:
    value, places = rows[merit].to_numpy(), np.arange(len(rows)) + shift
    ends = np.stack([value - rows[f"{merit}_low"], rows[f"{merit}_high"] - value])
    panel.errorbar(value, places, xerr=ends, fmt="o", markersize=4, color=colour, linewidth=1.3, label=label)


def _row_title(row: tuple) -> str:
    name = map_title(row.map) + (", smoothed" if row.smoothed else "")
    if row.training_images == "random":
        return f"{name},\nrandom training images"
    return name if row.models == "with the patch" else f"{name},\ntrained without the patch"


@styled()
def draw_shortcut_maps(examples: ShortcutExamples, columns: dict[str, np.ndarray]) -> Figure:
    """A row for each of a few misread test images: it, its most influential training image, and that image's maps.

    columns: title -> absolute maps (m, h, w) of the pairs, averaged over the seeds.
    """
    chosen = _first_pairs(examples.pairs)
    figure, panels = grid(len(chosen), 2 + len(columns))
    mean, std, names = examples.task.kind.mean, examples.task.kind.std, examples.task.class_names
    for row, (panel_row, pair) in enumerate(zip(panels, chosen, strict=True)):
        test, train = int(examples.pairs.test[pair]), int(examples.pairs.train[pair])
        show_image(panel_row[0], pixels(examples.test.inputs[test], mean, std))
        read_as = names[int(examples.test.labels[test])]
        title(panel_row[0], f"{names[int(examples.true_labels[test])]}\nread as {read_as}")
        image = pixels(examples.train.inputs[train], mean, std)
        show_image(panel_row[1], image)
        title(panel_row[1], f"training\nimage #{int(examples.train.indices[train])}")
        for panel, (name, maps) in zip(panel_row[2:], columns.items(), strict=True):
            show_overlay(panel, image, maps[pair])
            outline(panel, examples.region.numpy())
            if row == 0:
                title(panel, name)
    colour_scale(figure, panels.flat, "absolute")
    return figure


def _first_pairs(pairs: Pairs) -> list[int]:
    """Positions of a few pairs with different training and different test images."""
    chosen: list[int] = []
    for pair in range(len(pairs)):
        new = all(pairs.train[pair] != pairs.train[k] and pairs.test[pair] != pairs.test[k] for k in chosen)
        if new and len(chosen) < _SHOWN:
            chosen.append(pair)
    return chosen
