"""The documents' table of what removing and relabelling training examples does, from the CSVs under results/reference/."""

from pathlib import Path

import pandas as pd

from tda.methods.catalogue import method_title

NUMBERS = ("5%", "9%", "10%", "20%", "40%", "significant", "flagged", "all negative")
"""The numbers of examples that the table shows, chosen before any was looked at; the CSVs hold the others."""


def debiasing_table(reference: Path) -> pd.DataFrame:
    """Accuracy on the report part less that of training on all, by each selection, and less that of random removal."""
    rows = []
    for path in sorted(reference.glob("*/data_debiasing.csv")):
        table = pd.read_csv(path)
        for _, of_target in table.groupby("target", sort=False):
            rows += [_row(path.parent.name, one) for _, one in of_target[of_target["selection"] == "nothing"].iterrows()]
            shown = of_target[of_target["number"].isin(NUMBERS) & (of_target["action"] != "-")]
            order = ["selection", "method", "groups", "number"]
            for _, both in shown.groupby(order, sort=False):
                rows.append(_row(path.parent.name, both.iloc[-1]) | _effects(both))
    return pd.DataFrame(rows).fillna("")


def _row(experiment: str, row: pd.Series) -> dict[str, str]:
    method = "" if row["method"] == "-" else f", {method_title(row['method'])}"
    groups = "" if row["groups"] in ("-", "known") else f", {row['groups']} groups"
    wrong = "" if pd.isna(row["wrong_labels"]) else f"{row['wrong_labels']:.0%}"
    accuracy = _interval(row, "accuracy") if row["selection"] == "nothing" else ""
    return {
        "experiment": experiment,
        "what matters": row["target"].replace("_", " "),
        "chosen": f"{row['selection'].replace('_', ' ')}{method}{groups}",
        "number": "" if row["number"] == "-" else f"{row['removed']} ({row['number']})",
        "wrong labels among them": wrong,
        "accuracy": accuracy,
    }


def _effects(both: pd.DataFrame) -> dict[str, str]:
    """What removing, and what relabelling the same examples does."""
    found = {}
    for action, title in (("remove", "removed"), ("relabel", "relabelled")):
        for _, row in both[both["action"] == action].iterrows():
            found[f"{title}: gain"] = _interval(row, "accuracy_minus_all", "+")
            if not pd.isna(row["accuracy_minus_random"]):
                found[f"{title}: gain over random"] = _interval(row, "accuracy_minus_random", "+")
            found[f"{title}: gain of the worst group"] = _interval(row, "worst_group_accuracy_minus_all", "+")
    return found


def _interval(row: pd.Series, name: str, sign: str = "") -> str:
    value, low, high = (format(row[f"{name}{end}"], f"{sign}.3f") for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"
