"""The documents' tables of which texts state facts and which make a model give them, from the CSVs under results/reference/."""

from pathlib import Path

import pandas as pd

from tda.facts.removal_rows import OWN_TITLES
from tda.methods.catalogue import method_title

_SELECTIONS = {"significant": ", significant ones", "not_significant": ", helpful, not significant"}


def finding_table(reference: Path) -> pd.DataFrame:
    """Mean reciprocal rank and recall of the stating texts, by method, and whether reliable pairs are the stating ones."""
    rows = []
    for path in sorted(reference.glob("*/fact_tracing.csv")):
        for row in pd.read_csv(path).sort_values("mrr", ascending=False, kind="stable").to_dict("records"):
            rows.append(
                {
                    "experiment": path.parent.name,
                    "method": OWN_TITLES.get(row["method"], method_title(row["method"])),
                    "facts": row["facts"],
                    "mean reciprocal rank": interval(row, "mrr"),
                    f"recall at {row['found']}": interval(row, "recall"),
                    "significant of stating pairs": _share(row["significant_of_stating"]),
                    "of other pairs": _share(row["significant_of_others"]),
                    "stating of significant pairs": _share(row["stating_of_significant"]),
                }
            )
    return pd.DataFrame(rows)


def falling_table(reference: Path) -> pd.DataFrame:
    """The fall of the answer's log-probability where a method's texts are left out, beside random and stating texts."""
    rows = []
    for path in sorted(reference.glob("*/fact_removal.csv")):
        for row in pd.read_csv(path).sort_values("fall", ascending=False, kind="stable").to_dict("records"):
            left_out = OWN_TITLES.get(row["method"], method_title(row["method"])) + _SELECTIONS.get(row["selection"], "")
            rows.append(
                {
                    "experiment": path.parent.name,
                    "left out": f"{left_out} ({row['removed']})",
                    "facts x seeds": f"{row['facts']} x {row['seeds']}",
                    "texts out of a training": f"{row['removed_together']:g}",
                    "fall in nats": interval(row, "fall"),
                    "more than random": interval(row, "more_than_random"),
                    "more than the stating texts": interval(row, "more_than_oracle"),
                    "more than BM25's": interval(row, "more_than_bm25") if "more_than_bm25" in row else "",
                    "fall of 1 / rank": interval(row, "reciprocal_rank_fall"),
                    "said before, after": f"{row['said_before']:.0%}, {row['said_after']:.0%}",
                    "fall of other facts": f"{row['fall_of_others']:.2f}",
                }
            )
    return pd.DataFrame(rows)


def interval(row: dict, name: str) -> str:
    """A value with its interval, without where there is none; empty where there is no value."""
    if pd.isna(row[name]):
        return ""
    if pd.isna(row[f"{name}_low"]):
        return f"{row[name]:.2f}"
    value, low, high = (f"{row[f'{name}{end}']:.2f}" for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"


def _share(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.1%}"
