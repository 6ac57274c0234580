"""Tables of agreement with leave-one-out in the documents, from what the agreement and the LDS step wrote."""

from pathlib import Path

import pandas as pd

from tda.methods.catalogue import method_title

CHECKPOINTS = 1
"""The tables are of the last checkpoint, which leave-one-out and its derivative are of."""

_NOTHING = pd.DataFrame({"method": ["no experiment is kept yet"]})
_CEILING = "LOO of other runs"
_REFERENCES = {"random": "random scores", "retraining": "retrainings of other runs"}


def same_run_table(reference: Path) -> pd.DataFrame:
    """Per seed / means / p-values: rank correlation with LOO of the same runs; a row a method, a column an experiment.

    Of the experiments whose runs were unrolled, which is what the table is about.
    """
    columns = {}
    for name, with_loo, between in _experiments(reference):
        if "unrolled" not in set(with_loo["method"]):
            continue
        found = {
            row.method: f"{row.spearman_seed:.2f} / {row.spearman_mean:.2f} / {row.spearman_p_value:.2f}"
            for row in with_loo.sort_values("spearman_seed", ascending=False).itertuples()
        }
        ceiling = between[between["method"] == "loo"].iloc[0]
        found[_CEILING] = " / ".join(
            f"{ceiling[column]:.2f}" for column in ("spearman_other_run", "mean_of_halves", "p_value_of_halves")
        )
        columns[name] = found
    return _by_method(columns)


def other_run_table(reference: Path) -> pd.DataFrame:
    """Rank correlation of one run's scores with LOO of another run, with its interval; LOO's own is the ceiling."""
    columns = {}
    for name, _, between in _experiments(reference):
        ordered = between.sort_values("spearman_other_run", ascending=False)
        columns[name] = {
            _CEILING if row.method == "loo" else row.method: _interval(row._asdict(), "spearman_other_run")
            for row in ordered.itertuples()
        }
    return _by_method(columns)


def left_out_table(reference: Path) -> pd.DataFrame:
    """LDS of one run with its interval / of means: a row an experiment, kind and number left out, a column a method."""
    rows = []
    for path in sorted(reference.glob("*/lds_left_out.csv")):
        table = pd.read_csv(path)
        for (estimand, left_out), found in table.groupby(["estimand", "left_out"], sort=False):
            row = {"experiment": path.parent.name, "retrainings": estimand, "left out": left_out}
            for entry in found.drop_duplicates("method", keep="last").itertuples():
                name = _REFERENCES.get(entry.method) or method_title(entry.method)
                means = "" if pd.isna(entry.lds_means) else f" / {entry.lds_means:.2f}"
                row[name] = _interval(entry._asdict(), "lds_run") + means
            rows.append(row)
    if not rows:
        return _NOTHING
    table = pd.DataFrame(rows).fillna("")
    last = [name for name in _REFERENCES.values() if name in table]
    return table[[name for name in table if name not in last] + last]


def _experiments(reference: Path) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Name, agreement with LOO and agreement between runs of every experiment that has both, at the last checkpoint."""
    found = []
    for path in sorted(reference.glob("*/agreement_with_loo.csv")):
        tables = [pd.read_csv(path.with_name(f"agreement_{name}.csv")) for name in ("with_loo", "between_runs")]
        found.append((path.parent.name, *(table[table["checkpoints"] == CHECKPOINTS] for table in tables)))
    return found


def _interval(row: dict, column: str) -> str:
    if pd.isna(row[column]):
        return ""
    return f"{row[column]:.2f} [{row[f'{column}_low']:.2f}, {row[f'{column}_high']:.2f}]"


def _by_method(columns: dict[str, dict[str, str]]) -> pd.DataFrame:
    """A row a method, in the order of the first column that has it, rows that are no method last."""
    if not columns:
        return _NOTHING
    methods = list(dict.fromkeys(method for cells in columns.values() for method in cells))
    last = [_CEILING]
    methods = [method for method in methods if method not in last] + [method for method in last if method in methods]
    named = {"method": [method if method in last else method_title(method) for method in methods]}
    return pd.DataFrame(named | {name: [cells.get(method, "") for method in methods] for name, cells in columns.items()})
