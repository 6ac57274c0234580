"""The table and the figure of the study's grid: how reliable each method is for each model, data set and number of images."""

import json
import re
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from tda.figures.saving import save_picture
from tda.figures.style import lines_of, styled
from tda.methods.catalogue import method_title

MODELS, TASKS, SIZES = ("cnn", "vit"), ("mnist3", "cifar10"), (10, 20, 50)
FEWEST_SEEDS = 5
"""With fewer, next to no pair can pass, whatever its mean: such a cell is in the table alone."""
METHODS = ("loo", "ats", "if", "if_lissa", "grad_dot", "grad_cos", "trak", "unrolled")
_COMMIT = re.compile(r"^# Code of the tables of p-values and correlations: commit (\w+)\.$", re.MULTILINE)


def cells(reference: Path) -> pd.DataFrame:
    """A row a cell and method: model, task, images a class, seeds, share of pairs with q < 0.05, mean p, device, commit."""
    rows = []
    for model, task, size in ((model, task, size) for model in (*MODELS, "cnn3") for task in TASKS for size in SIZES):
        folder = reference / f"{model}_{task}_{size}pc"
        if not (folder / "summary.csv").exists():
            continue
        summary = pd.read_csv(folder / "summary.csv")
        steps = json.loads((folder / "steps.json").read_text())
        shared = {"model": model, "task": task, "images a class": size}
        shared |= {"commit": _COMMIT.search((folder / "commands.sh").read_text())[1]}
        for row in summary[summary["checkpoints"] == summary["checkpoints"].max()].itertuples():
            if row.method in METHODS:
                device = next(entry["device"] for step, entry in steps.items() if step.startswith(("scoring loo", "training")))
                found = {"method": row.method, "seeds": row.seeds, "share": row.share_q_below_level, "p": row.mean_p_value}
                rows.append(shared | found | {"device": "two CPU cores" if device.startswith("cpu") else "H100"})
    return pd.DataFrame(rows)


def grid_table(reference: Path) -> pd.DataFrame:
    """A row a cell: share of pairs with q < 0.05 / mean p of the t-test, by method, and its seeds where they are fewer."""
    rows = []
    for (model, task, size), own in cells(reference).groupby(["model", "task", "images a class"], sort=False):
        first, seeds = own.iloc[0], own["seeds"].max()
        fewer = {row.method: "" if row.seeds == seeds else f" ({row.seeds} seeds)" for row in own.itertuples()}
        told = {method_title(row.method): f"{row.share:.1%} / {row.p:.3f}{fewer[row.method]}" for row in own.itertuples()}
        shared = {"model": model, "task": task, "images a class": size}
        rows.append(shared | {"seeds": seeds, "on": first["device"], "commit": first["commit"]} | told)
    table = pd.DataFrame(rows).fillna("")
    titles = [method_title(method) for method in METHODS if method_title(method) in table]
    return table[["model", "task", "images a class", "seeds", "on", "commit", *titles]]


@styled()
def draw_grid(table: pd.DataFrame) -> Figure:
    """Share of reliable pairs against the number of training images: a panel a model and task, a line a method."""
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    panels = figure.subplots(len(MODELS), len(TASKS), sharex=True, sharey=True, squeeze=False)
    styles = lines_of([method_title(method) for method in METHODS])
    for panel, (model, task) in zip(panels.flat, ((model, task) for model in MODELS for task in TASKS), strict=True):
        own = table[(table["model"] == model) & (table["task"] == task) & (table["seeds"] >= FEWEST_SEEDS)]
        for method in METHODS:
            rows = own[own["method"] == method].sort_values("images a class")
            if len(rows):
                panel.plot(rows["images a class"], rows["share"], label=method_title(method), **styles[method_title(method)])
        panel.set(xscale="log", ylim=(-0.03, 1.03), title=f"{model}, {task}")
        panel.set_xticks(SIZES, [str(size) for size in SIZES])
        panel.minorticks_off()
    for panel in panels[-1]:
        panel.set_xlabel("training images a class")
    for panel in panels[:, 0]:
        panel.set_ylabel("share of pairs with q < 0.05")
    handles = {label: handle for panel in panels.flat for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right center")
    return figure


def save_grid_figure(reference: Path) -> None:
    """Write the figure beside the experiments' folders."""
    save_picture(draw_grid(cells(reference)), reference / "grid.png")
