"""The table of methods and what the charts of the overview show, from an experiment's CSVs and its manifest."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import read_manifest
from tda.scores.current_summary import of_most_checkpoints
from tda.scores.tables import current_rows
from tda.system.errors import UserError
from tda.system.files import reading

REFERENCE = "loo"
"""The method that the others are compared with."""
CORRELATED = {"mean": "mean scores", "std": "deviations over seeds", "pvalue": "p-values"}


@dataclass(frozen=True)
class Column:
    """A column of the table of methods: its key, heading, what it means, and which end of it is better, if one is."""

    key: str
    title: str
    meaning: str
    format: str
    better: str = ""


_HALVES = "linear datamodeling score of the largest ensembles judged: do they rank models retrained on random subsets?"
CORRELATIONS = "correlations"
_STEPS = {
    "agreement_with_loo": "agreement",
    "agreement_between_runs": "agreement",
    "lds": "LDS",
}
"""Tables, and the steps that write them."""
STEPS = {CORRELATIONS, *_STEPS.values()}
_OWN_RUNS = "the same for each run's own retrainings, with the fewest examples left out that were tried"
COLUMNS = (
    Column("share_reliable", "reliable pairs", "share of (training, test) pairs with q < 0.05", "percent", "high"),
    Column("mean_p", "mean p", "mean p-value of the t-test over seeds; pure noise has 0.5", "number", "low"),
    Column("signal_to_noise", "signal / noise", "median over pairs of |mean| / deviation over seeds", "number", "high"),
    Column("with_loo", "LOO, means", "rank correlation of mean scores with leave-one-out's, all pairs", "correlation", "high"),
    Column("with_loo_of_run", "LOO, same run", "rank correlation with leave-one-out of the same run", "correlation", "high"),
    Column("lds", "LDS", _HALVES, "correlation", "high"),
    Column("lds_left_out", "LDS, same run", _OWN_RUNS, "correlation", "high"),
    Column("seconds", "seconds", "wall time of scoring all members", "seconds", "low"),
)
NEEDS_SEEDS = ("share_reliable", "mean_p", "signal_to_noise")
"""Columns that say nothing of a method whose scores are the same for all seeds."""


@dataclass(frozen=True)
class Overview:
    """What an experiment's tables say.

    summary: summary.csv; methods: by name a row's values by key of COLUMNS, None where no table tells; correlations: by
    statistic and kind a matrix as a table, of methods in its own order; agreement, lds, left_out: as in their CSVs, None where
    there is none; missing: what is not there, and the command that makes it.
    """

    summary: pd.DataFrame
    methods: dict[str, dict[str, float | None]]
    correlations: dict[str, dict[str, pd.DataFrame]]
    agreement: pd.DataFrame | None
    between: pd.DataFrame | None
    lds: pd.DataFrame | None
    left_out: pd.DataFrame | None
    missing: dict[str, str] = field(default_factory=dict)


def read_overview(
    folder: ResultsFolder, summary: pd.DataFrame, outdated: Collection[str] = (), scores: Mapping[str, str] | None = None
) -> Overview:
    """Read all that there is; raises UserError for a table that is damaged.

    outdated: steps whose tables are of scores that are no longer there, and are left out; scores: method -> what they are now,
    by which rows of lds_left_out.csv are left out.
    """
    correlations = {
        statistic: {
            kind: table
            for kind in ("spearman", "pearson")
            if CORRELATIONS not in outdated
            and (table := optional_table(folder.path / f"correlation_{kind}_{statistic}.csv", index="method")) is not None
        }
        for statistic in CORRELATED
    }
    tables = {name: None if step in outdated else optional_table(folder.path / f"{name}.csv") for name, step in _STEPS.items()}
    left_out = optional_table(folder.path / "lds_left_out.csv")
    if scores is not None and left_out is not None and "scores" in left_out:
        left_out = current_rows(left_out, scores)
    found = Overview(
        summary,
        {},
        correlations,
        tables["agreement_with_loo"],
        tables["agreement_between_runs"],
        tables["lds"],
        left_out,
    )
    seconds = scoring_seconds(folder)
    for row in of_most_checkpoints(summary).itertuples():
        found.methods[row.method] = _row(found, row, seconds)
    named = f"--experiment {folder.name}"
    commands = {
        "correlations": (not correlations["mean"], f"run_correlation_analysis.py {named}"),
        "agreement": (found.agreement is None, f"run_agreement_analysis.py {named}"),
        "lds": (found.lds is None, f"run_subset_retraining.py {named}, then run_lds_evaluation.py {named}"),
    }
    found.missing.update({name: command for name, (is_missing, command) in commands.items() if is_missing})
    return found


def optional_table(path: Path, index: str | None = None) -> pd.DataFrame | None:
    """A CSV, or None if it is not there; raises UserError if it may not be read or is damaged."""
    try:
        with reading(path):
            return pd.read_csv(path, index_col=index, dtype={"scores": str})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged; delete it and run its step again") from error


def scoring_seconds(folder: ResultsFolder) -> dict[str, float]:
    """Wall time of scoring by method, the shares of several processes together."""
    whole: dict[str, float] = {}
    shares: dict[str, float] = {}
    for name, entry in read_manifest(folder)["steps"].items():
        kind, share = name.partition(", ")[::2]
        if kind.startswith("scoring "):
            method = kind.removeprefix("scoring ")
            held = shares if share else whole
            held[method] = held.get(method, 0) + entry["wall_seconds"]
    return shares | whole


def _row(found: Overview, row: tuple, seconds: dict[str, float]) -> dict[str, float | None]:
    method = row.method
    values = {
        "share_reliable": row.share_q_below_level,
        "mean_p": row.mean_p_value,
        "signal_to_noise": row.median_signal_to_noise,
        "with_loo": _correlation_with_reference(found, method),
        "with_loo_of_run": _last(found.agreement, method, "spearman_seed", "checkpoints"),
        "lds": _last(found.lds, method, "lds", "members"),
        "lds_left_out": _last(_fewest_of_own_run(found.left_out), method, "lds_run", "checkpoints"),
        "seconds": seconds.get(method),
    }
    if _same_for_every_seed(row):
        values |= dict.fromkeys(NEEDS_SEEDS)
    return {key: plain(value) for key, value in values.items()}


def _same_for_every_seed(row: tuple) -> bool:
    """Whether a line of summary.csv is of scores without any spread over seeds: of each pair |mean| / std is 0 or infinite.

    So is then their mean, and their median, and p is 1 or 0, so that the mean of p is the share of pairs with p = 1.
    """
    ends = {row.mean_signal_to_noise, row.median_signal_to_noise}
    return ends <= {0, np.inf} and abs(row.mean_p_value + row.share_p_below_level - 1) < 2e-6


def _correlation_with_reference(found: Overview, method: str) -> float | None:
    matrix = found.correlations["mean"].get("spearman")
    if matrix is None or method == REFERENCE or not {method, REFERENCE} <= set(matrix.columns):
        return None
    return matrix.loc[REFERENCE, method]


def _fewest_of_own_run(table: pd.DataFrame | None) -> pd.DataFrame | None:
    """The rows about retrainings of the members' own runs with the fewest examples left out; None if there are none."""
    if table is None or not {"estimand", "left_out"} <= set(table.columns):
        return None
    own = table[table["estimand"] == "same run"]
    return own[own["left_out"] == own["left_out"].min()] if len(own) else None


def _last(table: pd.DataFrame | None, method: str, column: str, largest: str) -> float | None:
    """A method's value in the row where another column is largest."""
    if table is None or column not in table or not (table["method"] == method).any():
        return None
    return table[table["method"] == method].sort_values(largest, kind="stable")[column].iloc[-1]


def plain(value: float | None) -> float | None:
    """A number that JSON has; None for what is undefined."""
    return None if value is None or not np.isfinite(value) else float(value)


def interval_of(row: Mapping, column: str) -> tuple[float, float, float] | None:
    """A cell of a table's row with the ends of its interval; None where one of them is undefined."""
    values = tuple(float(row[name]) for name in (column, f"{column}_low", f"{column}_high"))
    return values if np.isfinite(values).all() else None


def histogram(p_value: np.ndarray, bins: int = 20) -> list[float]:
    """Shares of the pairs in bins of equal width from 0 to 1."""
    return (np.histogram(p_value, np.linspace(0, 1, bins + 1))[0] / p_value.size).tolist()


def chart_data(found: Overview, histograms: dict[str, list[float]]) -> dict:
    """What the charts of the overview draw, as plain values."""
    return {
        "histograms": histograms,
        "correlations": {
            statistic: {kind: _matrix(table) for kind, table in kinds.items()}
            for statistic, kinds in found.correlations.items()
        },
        "agreement": _agreement_points(found),
        "lds": _records(found.lds, ("method", "members", "lds", "low", "high", "seconds")),
        "left_out": _records(found.left_out, ("method", "estimand", "left_out", "lds_run", "lds_run_low", "lds_run_high")),
    }


def _matrix(table: pd.DataFrame) -> dict:
    values = [[plain(value) for value in row] for row in table.to_numpy(dtype=float)]
    return {"methods": list(table.columns), "values": values}


def _records(table: pd.DataFrame | None, columns: tuple[str, ...]) -> list[dict]:
    if table is None:
        return []
    kept = table[[column for column in columns if column in table]]
    return [{key: plain_or_text(value) for key, value in row.items()} for row in kept.to_dict("records")]


def plain_or_text(value: object) -> object:
    """A cell as JSON has it."""
    if isinstance(value, str):
        return value
    return plain(float(value)) if isinstance(value, float | np.floating) else value


_AGREEMENT = {
    "scores of a run": ("spearman_seed", "spearman_other_run"),
    "means over seeds": ("spearman_mean", "mean_of_halves"),
    "deviations over seeds": ("spearman_std", "std_of_halves"),
    "p-values": ("spearman_p_value", "p_value_of_halves"),
}


def _agreement_points(found: Overview) -> list[dict]:
    """Rank correlation with LOO of the same runs with its interval, and with LOO of other runs, for each statistic."""
    if found.agreement is None or found.between is None:
        return []
    same, other = (of_most_checkpoints(table).set_index("method") for table in (found.agreement, found.between))
    points = []
    for statistic, (column, across) in _AGREEMENT.items():
        for method in same.index:
            numbers = {
                "value": same.loc[method, column],
                "low": same.loc[method, f"{column}_low"],
                "high": same.loc[method, f"{column}_high"],
                "other": other.loc[method, across] if method in other.index else None,
                "loo_of_other_runs": other.loc[REFERENCE, across] if REFERENCE in other.index else None,
            }
            points.append({"statistic": statistic, "method": method} | {key: plain(value) for key, value in numbers.items()})
    return points
