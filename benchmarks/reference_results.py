"""Keep the small tables of finished experiments under results/reference/ and render the documents' tables from them.

usage: python benchmarks/reference_results.py [experiment ...]

Copies summary.csv, mean p-values, correlations, and what the yardsticks and the influence maps found, of each named experiment
from results/, as far as they are there; then rewrites what stands between the markers `<!-- begin ... -->` and
`<!-- end ... -->` of README.md and docs/*.md from everything under results/reference/. A table lies where its markers are.
"""

import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import agreement_tables
import debiasing_tables
import fact_tables
import grid_tables
import language_study_tables
import map_tables
import metric_tables
import pair_removal_tables
import pandas as pd
import plan_tables
import variance_tables
import whole_tables
import yardstick_tables
from rooms import rooms_table

from tda.methods.catalogue import method_title

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "results" / "reference"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
STUDY = (
    "summary.csv",
    "mean_p_values.csv",
    "mean_single_draw_p_values.csv",
    "correlation_*.csv",
    "agreement_*.csv",
    "agreement_*.png",
)
YARDSTICKS = (
    "lds*.csv",
    "lds*.png",
    "removal.csv",
    "removal_same_run.csv",
    "removal*.png",
    "mislabel_detection.csv",
    "damping_choice_*.csv",
    "metasmoothness.csv",
)
METRICS = ("score_metrics.csv", "score_metrics.png")
VARIANCE = ("variance_*.csv", "variance_components.png", "seeds_needed.csv", "seeds_needed.png", "seed_test_errors.csv")
MAPS = ("shortcut_*.csv", "map_truth.csv")
DEBIASING = ("data_debiasing.csv", "data_debiasing_*accuracy.png", "galleries/negative_*.png")
FACTS = ("fact_tracing.csv", "fact_tracing.png", "fact_removal.csv", "fact_removal_alone.csv")
PAIRS = ("retrieval.csv", "pair_removal.csv", "pair_removal.png")
MERGED = {"seconds": "sum", "peak MiB": "max", "device": "first"}
FIRST_METHODS = ["loo", "ats", "if", "if_lissa", "grad_dot", "grad_cos"]
ORDER = ["cnn_digits3_10pc", *(f"cnn_{task}_{size}pc" for task in grid_tables.TASKS for size in grid_tables.SIZES)]
ORDER += ["vit_digits3_10pc", *(f"vit_{task}_{size}pc" for task in grid_tables.TASKS for size in grid_tables.SIZES)]


def keep(name: str) -> None:
    """Copy an experiment's small tables, and how they were made."""
    source, target = ROOT / "results" / name, REFERENCE / name
    target.mkdir(parents=True, exist_ok=True)
    for pattern in STUDY + YARDSTICKS + VARIANCE + MAPS + METRICS + DEBIASING + FACTS + PAIRS:
        for path in source.glob(pattern):
            shutil.copyfile(path, target / path.name)
    steps = json.loads((source / "manifest.json").read_text())["steps"]
    kept = ("device", "versions", "wall_seconds", "peak_memory_mib", "input_sha256")
    described = {step: {key: entry[key] for key in kept} for step, entry in steps.items()}
    record = target / "steps.json"
    if record.exists() and not (source / "summary.csv").exists():
        # The study's tables stay, and with them what is said of the steps that they came from.
        described |= json.loads(record.read_text())
    record.write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")


def experiments() -> list[str]:
    """Experiments under results/reference/ whose scores were compared with leave-one-out, the study's own first.

    Images with texts have tables of their own, and so have networks that learn from all of MNIST.
    """
    compared = [path.parent.name for path in REFERENCE.glob("*/correlation_spearman_mean.csv") if "loo" in _matrix(path)]
    found = {name for name in compared if not name.startswith(language_study_tables.PAIRS)}
    found = {name for name in found if not whole_tables.is_of_all_mnist(name)}
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
        matrix = _matrix(REFERENCE / name / "correlation_spearman_mean.csv")
        for method in matrix.index.drop("loo"):
            cells.setdefault(method, {})[name] = f"{matrix.loc[method, 'loo']:.2f}"
    return by_method(cells)


def _matrix(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, index_col="method")


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


def _from_csvs(render: Callable[[Path], pd.DataFrame]) -> str:
    return markdown(render(REFERENCE))


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def rendered(texts: dict[Path, str]) -> dict[Path, str]:
    """The pages' texts with every table between its markers made anew; raises ValueError unless each has one place."""
    pages = dict(texts)
    for marker, render in TABLES.items():
        begin, end = f"<!-- begin {marker} -->", f"<!-- end {marker} -->"
        places = [path for path, text in pages.items() if begin in text]
        if len(places) != 1 or pages[places[0]].count(begin) != 1 or pages[places[0]].count(end) != 1:
            raise ValueError(f"{begin} and {end} must stand in one page, once; they are in {[path.name for path in places]}")
        before, _, rest = pages[places[0]].partition(begin)
        _, _, after = rest.partition(end)
        pages[places[0]] = f"{before}{begin}\n{render()}\n{end}{after}"
    return pages


def fill() -> None:
    """Render every table in its page."""
    for path, text in rendered({path: path.read_text() for path in PAGES}).items():
        path.write_text(text)


TABLES = {
    "reliability": reliability_table,
    "correlations": correlation_table,
    "costs": cost_table,
    "curvature": curvature_table,
    "base": base_table,
    "rooms": lambda: markdown(rooms_table()),
    "options": lambda: markdown(plan_tables.options_table()),
}
TABLES |= {
    marker: partial(_from_csvs, render)
    for marker, render in {
        "grid": grid_tables.grid_table,
        "agreement": agreement_tables.same_run_table,
        "agreement between runs": agreement_tables.other_run_table,
        "left out": agreement_tables.left_out_table,
        "lds": yardstick_tables.lds_table,
        "lds by pairs": yardstick_tables.pair_reliability_table,
        "lds by test examples": yardstick_tables.test_reliability_table,
        "debiasing": debiasing_tables.debiasing_table,
        "pairs found": pair_removal_tables.retrieval_table,
        "pairs left out": pair_removal_tables.removal_table,
        "pairs lds": pair_removal_tables.lds_table,
        "pairs agreement": agreement_tables.pairs_table,
        "facts found": fact_tables.finding_table,
        "facts driven": fact_tables.falling_table,
        "language lds": language_study_tables.lds_table,
        "language mislabels": language_study_tables.mislabel_table,
        "removal": yardstick_tables.removal_table,
        "mislabels": yardstick_tables.mislabel_table,
        "damping": yardstick_tables.damping_table,
        "metasmoothness": plan_tables.smoothness_table,
        "variance": variance_tables.shares_table,
        "varied p-values": variance_tables.p_values_table,
        "seeds needed": variance_tables.seeds_needed_table,
        "seed test errors": variance_tables.errors_table,
        "shortcut": map_tables.shortcut_table,
        "truth": map_tables.truth_table,
        "all of MNIST": whole_tables.all_pairs_table,
        "100 of MNIST": whole_tables.few_pairs_table,
        "wrong labels": metric_tables.wrong_labels_table,
        "score use": metric_tables.score_use_table,
    }.items()
}


if __name__ == "__main__":
    for experiment in sys.argv[1:]:
        keep(experiment)
    fill()
    grid_tables.save_grid_figure(REFERENCE)
