"""What the page says of facts: how well each method finds the texts that state them, and what leaving its texts out does."""

from collections.abc import Mapping

import pandas as pd

from tda.experiments.folders import ResultsFolder
from tda.facts.removal_rows import OWN_TITLES
from tda.methods.catalogue import method_title
from tda.report.overview import interval_of, optional_table
from tda.system.errors import UserError

_HIGHEST = ("highest", "-")


def read_traced_facts(folder: ResultsFolder) -> dict:
    """Both tables of run_fact_tracing.py as rows of values with their intervals; empty where the step was not run.

    `facts`: how many were asked for; `found`: recall is among so many first; `removed`, `seeds`: texts left out, and trainings,
    0 where none was; `rows`: by method `mrr`, `recall`, `fall` (nats, of the answer's log-probability) and `said` (share of
    the answers that are still given), each None or (value, low, high). Raises UserError for a table that is damaged.
    """
    finding, falling = (optional_table(folder.path / f"fact_{name}.csv") for name in ("tracing", "removal"))
    if finding is None:
        return {}
    try:
        return _facts(finding, falling)
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(
            f"fact_tracing.csv or fact_removal.csv in {folder.path} is damaged; delete both and run run_fact_tracing.py again"
        ) from error


def _facts(finding: pd.DataFrame, falling: pd.DataFrame | None) -> dict:
    falls: dict[str, Mapping] = {}
    if falling is not None:
        chosen = falling[(falling["removed"] == falling["removed"].max()) & falling["selection"].isin(_HIGHEST)]
        falls = {row["method"]: row for row in chosen.to_dict("records")}
    ordered = finding.sort_values("mrr", ascending=False, kind="stable").to_dict("records")
    some = next(iter(falls.values()), {})
    return {
        "facts": int(finding["facts"].iloc[0]),
        "found": int(finding["found"].iloc[0]),
        "removed": int(some.get("removed", 0)),
        "seeds": int(some.get("seeds", 0)),
        "rows": [_row(row, falls.get(row["method"])) for row in ordered],
    }


def _row(found: Mapping, fell: Mapping | None) -> dict:
    name = found["method"]
    return {
        "method": name,
        "title": OWN_TITLES.get(name) or method_title(name),
        "mrr": interval_of(found, "mrr"),
        "recall": interval_of(found, "recall"),
        "fall": None if fell is None else interval_of(fell, "fall"),
        "said": None if fell is None else float(fell["said_after"]),
        "said_before": None if fell is None else float(fell["said_before"]),
    }
