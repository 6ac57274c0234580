"""Keep the small tables of finished experiments under results/reference/ and render the README's tables from them.

usage: python benchmarks/reference_results.py [experiment ...]

Copies summary.csv, mean p-values, correlations and the tables of influence maps of each named experiment from results/; then
rewrites what stands between the markers `<!-- begin ... -->` and `<!-- end ... -->` of README.md from everything under
results/reference/.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import pandas as pd

from tda.features.shortcut_figures import map_title
from tda.figures import method_title

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "results" / "reference"
README = ROOT / "README.md"
KEPT = (
    "summary.csv",
    "mean_p_values.csv",
    "mean_single_draw_p_values.csv",
    "correlation_*.csv",
    "shortcut_*.csv",
    "map_truth.csv",
)
MERGED = {"seconds": "sum", "peak MiB": "max", "device": "first"}
FIRST_METHODS = ["loo", "ats", "if", "if_lissa", "grad_dot", "grad_cos"]
ORDER = ["cnn_digits3_10pc", "cnn_mnist3_10pc", "cnn_mnist3_50pc", "cnn_cifar10_10pc", "vit_digits3_10pc", "vit_mnist3_10pc"]


def keep(name: str) -> None:
    """Copy an experiment's small tables, and how they were made."""
    source, target = ROOT / "results" / name, REFERENCE / name
    target.mkdir(parents=True, exist_ok=True)
    for pattern in KEPT:
        for path in source.glob(pattern):
            shutil.copyfile(path, target / path.name)
    steps = json.loads((source / "manifest.json").read_text())["steps"]
    kept = ("device", "versions", "wall_seconds", "peak_memory_mib", "input_sha256")
    described = {step: {key: entry[key] for key in kept} for step, entry in steps.items()}
    (target / "steps.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")


def experiments() -> list[str]:
    """Experiments under results/reference/ whose scores were compared, the study's own first."""
    found = {path.parent.name for path in REFERENCE.glob("*/summary.csv")}
    return [name for name in ORDER if name in found] + sorted(found - set(ORDER))


def reliability_table() -> str:
    """Mean p-values and the share of reliable pairs at the largest number of checkpoints: a row a method."""
    cells = {}
    for name in experiments():
        summary = pd.read_csv(REFERENCE / name / "summary.csv")
        single = pd.read_csv(REFERENCE / name / "mean_single_draw_p_values.csv").iloc[-1]
        for row in summary[summary.checkpoints == summary.checkpoints.max()].itertuples():
            found = f"{row.mean_p_value:.3f} / {single[row.method]:.2f} / {row.share_q_below_level:.1%}"
            cells.setdefault(row.method, {})[name] = found
    return by_method(cells)


def correlation_table() -> str:
    """Spearman correlation of every method's mean scores with those of leave-one-out: a row a method."""
    cells = {}
    for name in experiments():
        matrix = pd.read_csv(REFERENCE / name / "correlation_spearman_mean.csv", index_col=0)
        for method in matrix.index.drop("loo"):
            cells.setdefault(method, {})[name] = f"{matrix.loc[method, 'loo']:.2f}"
    return by_method(cells)


def by_method(cells: dict[str, dict[str, str]]) -> str:
    """A table with a row a method and a column an experiment, the study's own methods first."""
    methods = [method for method in FIRST_METHODS if method in cells] + sorted(set(cells) - set(FIRST_METHODS))
    table = pd.DataFrame([{"method": method_title(method), **cells[method]} for method in methods])
    return markdown(table[["method", *(name for name in experiments() if name in table)]].fillna(""))


def cost_table() -> str:
    """Wall time, added up over the processes that shared a step's seeds, and the largest peak memory among them."""
    rows = []
    for name in experiments():
        steps = json.loads((REFERENCE / name / "steps.json").read_text())
        entries = [
            {
                "experiment": name,
                "step": step.partition(", seed")[0],
                "seconds": entry["wall_seconds"],
                "peak MiB": entry["peak_memory_mib"],
                "device": entry["device"],
            }
            for step, entry in steps.items()
        ]
        rows += [pd.DataFrame(entries).groupby(["experiment", "step"], as_index=False).agg(MERGED)]
    table = pd.concat(rows)
    return markdown(table.assign(seconds=table["seconds"].map("{:.0f}".format)))


def curvature_table() -> str:
    """What benchmarks/influence_matrix.py found."""
    found = []
    for path in sorted((ROOT / "benchmarks" / "results").glob("influence_matrix_*.csv")):
        found.append(pd.read_csv(path).assign(experiment=path.stem.removeprefix("influence_matrix_")))
    table = pd.concat(found)
    columns = ["experiment", "curvature", "damping", "pearson_with_loo", "spearman_with_loo", "mean_spearman_per_test_example"]
    table = table[[*columns, "largest_residual", "processor_seconds_per_member"]]
    return markdown(table.rename(columns=lambda column: column.replace("_", " ")).astype(object).fillna(""))


def base_table() -> str:
    """What benchmarks/vit_from_scratch.py found: test accuracy with and without the embedded base."""
    found = []
    for path in sorted((ROOT / "benchmarks" / "results").glob("vit_from_scratch_*.csv")):
        found.append(pd.read_csv(path).assign(experiment=path.stem.removeprefix("vit_from_scratch_")))
    table = pd.concat(found)[["experiment", "training", "seeds", "mean", "smallest", "largest"]]
    return markdown(table)


def shortcut_table() -> str:
    """Area under the curve of "this pixel belongs to the patch" in every shortcut study: a row a study and map."""
    rows = []
    for path in _by_size("shortcut_merits.csv"):
        merits, misread = pd.read_csv(path), pd.read_csv(path.with_name("shortcut_misread.csv")).set_index("models").misread
        shares = f"{misread['with the patch']:.0%} / {misread['without the patch']:.0%}"
        experiment = f"{path.parent.name.removesuffix('_shortcut')}, {merits.seeds.max()} seeds"
        for name, found in merits.groupby("map", sort=False):
            cells = found.set_index(["models", "training_images", "smoothed", "seeds_averaged"])
            rows.append([experiment, shares, map_title(name), *(_area(cells, *key) for key in _SHORTCUT_COLUMNS.values())])
    return markdown(pd.DataFrame(rows, columns=["trained", "misread with / without", "map", *_SHORTCUT_COLUMNS]))


_SHORTCUT_COLUMNS = {
    "one seed, plain": ("with the patch", "influential", False, False),
    "one seed, smoothed": ("with the patch", "influential", True, False),
    "mean over seeds, plain": ("with the patch", "influential", False, True),
    "mean over seeds, smoothed": ("with the patch", "influential", True, True),
    "the same, trained without the patch": ("without the patch", "influential", True, True),
    "the same, random training images": ("with the patch", "random", True, True),
}


def _by_size(name: str) -> list[Path]:
    """Files of that name in experiments' folders, numbers in the folders' names sorted as numbers."""
    return sorted(REFERENCE.glob(f"*/{name}"), key=lambda path: [part.zfill(9) for part in re.split(r"(\d+)", str(path))])


def _area(cells: pd.DataFrame, *key: object) -> str:
    if key not in cells.index:
        return ""
    row = cells.loc[key]
    return f"{row.area_under_curve:.2f} [{row.area_under_curve_low:.2f}, {row.area_under_curve_high:.2f}]"


def truth_table() -> str:
    """Loss changes of steps on images of which a share of the pixels is kept or removed: a row an experiment and order."""
    rows = []
    for path in _by_size("map_truth.csv"):
        table = pd.read_csv(path)
        for (protocol, order), found in table.groupby(["protocol", "pixels"], sort=False):
            found = found[found.share.isin(_SHOWN_SHARES)]
            cells = {f"{share:.0%}": f"{change:.2f} [{low:.2f}, {high:.2f}]" for share, change, low, high in zip(
                found.share, found.loss_change, found.low, found.high, strict=True
            )}  # fmt: skip
            rows.append({"experiment": path.parent.name, "pixels": f"{_PROTOCOLS[protocol]} {_ORDERS[order]}", **cells})
    return markdown(pd.DataFrame(rows))


_SHOWN_SHARES = (0.01, 0.05, 0.1, 0.2, 0.5, 1)
_PROTOCOLS = {"keep": "kept", "delete": "removed"}
_ORDERS = {"map": "by the map", "random": "at random"}


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def rendered(text: str) -> str:
    """The README's text with every table between its markers made anew."""
    for marker, render in TABLES.items():
        begin, end = f"<!-- begin {marker} -->", f"<!-- end {marker} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{render()}\n{end}{after}"
    return text


TABLES = {
    "reliability": reliability_table,
    "correlations": correlation_table,
    "costs": cost_table,
    "curvature": curvature_table,
    "base": base_table,
    "shortcut": shortcut_table,
    "truth": truth_table,
}


if __name__ == "__main__":
    for experiment in sys.argv[1:]:
        keep(experiment)
    README.write_text(rendered(README.read_text()))
