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
"""With fewer, the t-test passes few pairs, whatever their means: such a cell is in the table alone."""
METHODS = ("loo", "ats", "if", "if_lissa", "grad_dot", "grad_cos", "trak", "unrolled")
OWN_ENSEMBLE = "summary_two_cores.csv"
"""Methods that were added to a cell later, or have more seeds, on two CPU cores: trained anew where members were not kept."""
_COMMIT = re.compile(r"^# Code of the tables of p-values and correlations: commit (\w+)\.$", re.MULTILINE)
_OWN_COMMIT = re.compile(rf"^# {re.escape(OWN_ENSEMBLE)}: .*[Cc]ommit (\w+)\.$", re.MULTILINE)


def cells(reference: Path) -> pd.DataFrame:
    """A row a cell and method: model, task, images a class, seeds, share of pairs with q < 0.05, mean p, device, commit.

    Column `added` says that a method comes from OWN_ENSEMBLE, which gives what the cell's summary lacks or has of fewer seeds.
    """
    rows = []
    for model, task, size in ((model, task, size) for model in (*MODELS, "cnn3") for task in TASKS for size in SIZES):
        folder = reference / f"{model}_{task}_{size}pc"
        if not (folder / "summary.csv").exists():
            continue
        summary = pd.read_csv(folder / "summary.csv")
        steps = json.loads((folder / "steps.json").read_text())
        commands = (folder / "commands.sh").read_text()
        shared = {"model": model, "task": task, "images a class": size, "commit": _COMMIT.search(commands)[1]}
        device = next(entry["device"] for step, entry in steps.items() if step.startswith(("scoring loo", "training")))
        shared["device"] = "two CPU cores" if device.startswith("cpu") else "H100"
        found = {method: shared | {"added": False} | told for method, told in _methods(summary).items()}
        if (folder / OWN_ENSEMBLE).exists():
            shared |= {"commit": _OWN_COMMIT.search(commands)[1], "added": True}
            own = _methods(pd.read_csv(folder / OWN_ENSEMBLE))
            for method, told in own.items():
                if method not in found or told["seeds"] > found[method]["seeds"]:
                    found[method] = shared | told
        rows += found.values()
    return pd.DataFrame(rows)


def _methods(summary: pd.DataFrame) -> dict[str, dict]:
    """Seeds, share and mean p of each of the grid's methods over the most checkpoints."""
    last = summary[(summary["checkpoints"] == summary["checkpoints"].max()) & summary["method"].isin(METHODS)]
    return {
        row.method: {"method": row.method, "seeds": row.seeds, "share": row.share_q_below_level, "p": row.mean_p_value}
        for row in last.itertuples()
    }


def grid_table(reference: Path) -> pd.DataFrame:
    """A row a cell: share of pairs with q < 0.05 / mean p of the t-test, by method, and its seeds where they are others.

    A star marks what comes from OWN_ENSEMBLE, on two CPU cores, and the commit that it is of; the device is the others'.
    """
    rows = []
    for (model, task, size), found in cells(reference).groupby(["model", "task", "images a class"], sort=False):
        first, seeds = found.iloc[0], found["seeds"].max()
        told = {}
        for row in found.itertuples():
            other = "" if row.seeds == seeds else f" ({row.seeds} seeds)"
            told[method_title(row.method)] = f"{row.share:.1%} / {row.p:.3f}{'*' * row.added}{other}"
        sources = found.sort_values("added").drop_duplicates(["commit", "added"])
        commits = [f"{'*' * row.added}{row.commit}" for row in sources.itertuples()]
        shared = {"model": model, "task": task, "images a class": size, "seeds": seeds}
        rows.append(shared | {"on": first["device"], "commit": ", ".join(commits)} | told)
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
