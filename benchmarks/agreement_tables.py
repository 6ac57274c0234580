"""Tables of agreement with leave-one-out in the documents, from what the agreement and the LDS step wrote."""

from pathlib import Path

import pandas as pd
from language_study_tables import PAIRS

from tda.methods.catalogue import method_title

CHECKPOINTS = 1
"""The tables are of the last checkpoint, which leave-one-out and its derivative are of."""

_NOTHING = pd.DataFrame({"method": ["no experiment is kept yet"]})
_OTHER_RUNS = "LOO of other runs"
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
        of_loo = between[between["method"] == "loo"].iloc[0]
        found[_OTHER_RUNS] = " / ".join(
            f"{of_loo[column]:.2f}" for column in ("spearman_other_run", "mean_of_halves", "p_value_of_halves")
        )
        columns[name] = found
    return _by_method(columns)


def other_run_table(reference: Path) -> pd.DataFrame:
    """Rank correlation of one run's scores with LOO of another run, with its interval; LOO's own is to compare with."""
    columns = {}
    for name, _, between in _experiments(reference):
        ordered = between.sort_values("spearman_other_run", ascending=False)
        columns[name] = {
            _OTHER_RUNS if row.method == "loo" else row.method: _interval(row._asdict(), "spearman_other_run")
            for row in ordered.itertuples()
        }
    return _by_method(columns)


def pairs_table(reference: Path) -> pd.DataFrame:
    """Of images with texts: rank correlation with LOO of the same run, of means over seeds, of p-values, and of another run."""
    rows = []
    for name, with_loo, between in _experiments(reference, of_pairs=True):
        between, of_loo = between.set_index("method"), between.set_index("method").loc["loo"]
        for row in with_loo.sort_values("spearman_seed", ascending=False).itertuples():
            other = _interval(between.loc[row.method].to_dict(), "spearman_other_run")
            found = {"experiment": name, "method": method_title(row.method)}
            found |= {"LOO of the same run": _interval(row._asdict(), "spearman_seed")}
            found |= {"of means": f"{row.spearman_mean:.2f}", "of p-values": f"{row.spearman_p_value:.2f}"}
            rows.append(found | {"LOO of another run": other})
        found = {"experiment": name, "method": _OTHER_RUNS, "LOO of the same run": ""}
        # Fewer than six seeds have no halves to compare.
        halves = {"of means": of_loo.mean_of_halves, "of p-values": of_loo.p_value_of_halves}
        found |= {title: "" if pd.isna(value) else f"{value:.2f}" for title, value in halves.items()}
        rows.append(found | {"LOO of another run": _interval(of_loo.to_dict(), "spearman_other_run")})
    return pd.DataFrame(rows) if rows else _NOTHING


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


def _experiments(reference: Path, of_pairs: bool = False) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Name, agreement with LOO and agreement between runs of every experiment that has both, at the last checkpoint.

    Images with texts have a table of their own.
    """
    found = []
    for path in sorted(reference.glob("*/agreement_with_loo.csv")):
        if path.parent.name.startswith(PAIRS) != of_pairs:
            continue
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
    last = [_OTHER_RUNS]
    methods = [method for method in methods if method not in last] + [method for method in last if method in methods]
    named = {"method": [method if method in last else method_title(method) for method in methods]}
    return pd.DataFrame(named | {name: [cells.get(method, "") for method in methods] for name, cells in columns.items()})
