"""The documents' tables of what scores are good for, from score_metrics.csv of the experiments under results/reference/."""

from pathlib import Path

import pandas as pd

from tda.figures.score_metrics import score_title

_OTHERS = {
    "class": "same class",
    "group": "same group",
    "overlap": "overlap of two seeds",
    "randomised": "correlation with a shuffled model",
    "randomised_same_class": "the same within the class",
}


def wrong_labels_table(reference: Path) -> pd.DataFrame:
    """A row a score: area under the curve of the mean over seeds, its distance from another, precision; two columns a study."""
    columns: dict[str, dict[str, str]] = {}
    order: dict[str, float] = {}
    for name, table in _tables(reference):
        found = table[(table["seeds"] == "mean") & table["metric"].str.startswith("wrong_labels")]
        for score, rows in found.groupby("score", sort=False):
            by_metric = rows.set_index("metric")
            area = by_metric.loc["wrong_labels_auc"]
            apart = (
                "" if pd.isna(area["difference"]) else f" ({area['difference']:+.3f}{_ends(area, 'difference_', signed=True)})"
            )
            cell = f"{area['value']:.3f}{_ends(area)}{apart}"
            columns.setdefault(f"{name}, area (difference)", {})[score] = cell
            precision = by_metric.loc["wrong_labels_precision"]
            columns.setdefault(f"{name}, precision", {})[score] = f"{precision['value']:.3f}{_ends(precision)}"
            order[score] = max(order.get(score, 0), area["value"])
    scores = sorted(order, key=lambda score: -order[score])
    titles = {"score": [score_title(score) for score in scores]}
    return pd.DataFrame(titles | {title: [cells.get(score, "") for score in scores] for title, cells in columns.items()})


def score_use_table(reference: Path) -> pd.DataFrame:
    """A row a study and method: the metrics of score files, of one seed, each with what guessing has."""
    rows = []
    for name, table in _tables(reference):
        found = table[(table["seeds"] == "one") & table["metric"].isin(_OTHERS)]
        for score, of_score in found.groupby("score"):
            cells = of_score.set_index("metric")
            row = {"experiment": name, "method": score_title(score)}
            for metric, title in _OTHERS.items():
                row[title] = ""
                if metric in cells.index:
                    value = cells.loc[metric]
                    row[title] = f"{value['value']:.2f}{_ends(value, digits=2)}, by chance {value['chance']:.2f}"
            rows.append(row)
    return pd.DataFrame(rows, columns=["experiment", "method", *_OTHERS.values()])


def _tables(reference: Path) -> list[tuple[str, pd.DataFrame]]:
    return [(path.parent.name, pd.read_csv(path)) for path in sorted(reference.glob("*/score_metrics.csv"))]


def _ends(row: pd.Series, prefix: str = "", digits: int = 3, signed: bool = False) -> str:
    low, high = row[f"{prefix}low"], row[f"{prefix}high"]
    sign = "+" if signed else ""
    return "" if pd.isna(low) else f" [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"
