"""The documents' tables of what predicts retraining, from the CSVs under results/reference/."""

from pathlib import Path

import pandas as pd
from language_study_tables import FAMILY, PAIRS, REFERENCES

from tda.methods.catalogue import method_title

LDS_ORDER = ["mlp_mnist_500pc", "lr_mnist_500pc", "cnn_mnist3_50pc", "cnn_cifar10_50pc"]
PAIR_CHOICES = {
    "reliable": "reliable",
    "others": "the others",
    "as many random pairs": "as many random",
    "as many largest pairs": "as many largest",
}


def lds_table(reference: Path) -> pd.DataFrame:
    """LDS of one member and of the largest ensemble, against one retraining / the mean; the best method of the MLP first."""
    columns, order = {}, []
    for name in _without_language(reference, "lds.csv"):
        table = pd.read_csv(reference / name / "lds.csv")
        for size in (1, 10):
            rows = table[table["members"] == size].set_index("method")
            title = f"{name}, {size} run{'s' if size > 1 else ''}"
            columns[title] = {method: _lds_cell(row) for method, row in rows.iterrows()}
            references = table[table["members"] == 0].set_index("method")
            columns[title] |= {method: _lds_cell(row) for method, row in references.iterrows()}
            order += rows.sort_values("lds", ascending=False).index.tolist()
    methods = [*dict.fromkeys(order), *REFERENCES]
    found = {"method": [REFERENCES.get(method) or method_title(method) for method in methods]}
    return pd.DataFrame(found | {title: [cells.get(method, "") for method in methods] for title, cells in columns.items()})


def _lds_cell(row: pd.Series) -> str:
    return f"{row['lds_single_retraining']:.3f} / {row['lds']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def pair_reliability_table(reference: Path) -> pd.DataFrame:
    """LDS of the mean score by the t-test's verdict about pairs."""
    rows = []
    for name in _with(reference, "lds_by_reliability.csv"):
        table = pd.read_csv(reference / name / "lds_by_reliability.csv")
        for method, found in table.groupby("method", sort=False):
            by_choice = found.set_index("pairs")
            share = f"{by_choice.loc['reliable', 'share']:.1%}"
            row = {"experiment": name, "method": method_title(method), "reliable pairs": share}
            for choice, title in PAIR_CHOICES.items():
                row[f"LDS: {title}"] = _interval(by_choice.loc[choice], "lds", "low", "high")
            for choice in ("reliable", "others"):
                columns = ("correlation_with_effect", "correlation_low", "correlation_high")
                row[f"correlation with effect: {PAIR_CHOICES[choice]}"] = _interval(by_choice.loc[choice], *columns)
            rows.append(row)
    return pd.DataFrame(rows)


def test_reliability_table(reference: Path) -> pd.DataFrame:
    """LDS of the quarters of test examples with the fewest and with the most reliable pairs, and the correlation of the two."""
    rows = []
    for name in _with(reference, "lds_by_test_reliability.csv"):
        table = pd.read_csv(reference / name / "lds_by_test_reliability.csv")
        for method, found in table.groupby("method", sort=False):
            row = {"experiment": name, "method": method_title(method)}
            for place, title in ((0, "fewest"), (-1, "most")):
                part = found.iloc[place]
                cell = f"{_interval(part, 'lds', 'low', 'high')} ({part['share_reliable']:.0%})"
                row[f"LDS, quarter with {title} reliable pairs"] = cell
            row["correlation over test examples"] = _interval(
                found.iloc[0], "correlation", "correlation_low", "correlation_high"
            )
            rows.append(row)
    return pd.DataFrame(rows)


def removal_table(reference: Path) -> pd.DataFrame:
    """Fall of the margin after removal, with its interval, and flipped predictions.

    Times random, at least: the lower end of the fall's interval over the end of random removal's that is farther from 0.
    """
    rows = []
    for name in _with(reference, "removal.csv"):
        table = pd.read_csv(reference / name / "removal.csv")
        random = table[table["method"] == "random"].set_index("removed")
        for _, row in table.iterrows():
            method = "random removal" if row["method"] == "random" else method_title(row["method"])
            found = {"experiment": name, "method": method, "removed": f"{row['removed']:.0f} ({row['share']:.0%})"}
            found |= {"fall of the margin": _interval(row, "margin_fall", "low", "high", 2)}
            largest = random.loc[row["removed"], ["low", "high"]].abs().max()
            times = "" if row["method"] == "random" else f"{row['low'] / largest:.0f}"
            found |= {"times random, at least": times, "predictions that change": f"{row['flips']:.0%}"}
            rows.append(found)
    return pd.DataFrame(rows)


def mislabel_table(reference: Path) -> pd.DataFrame:
    """Area under the curve of self-influence as a detector of flipped labels: mean and range over seeds."""
    rows = []
    for name in _without_language(reference, "mislabel_detection.csv"):
        areas = pd.read_csv(reference / name / "mislabel_detection.csv").groupby("method")["area_under_curve"]
        for method, values in areas:
            found = {"experiment": name, "method": method_title(method), "mean": f"{values.mean():.4f}"}
            rows.append(found | {"smallest": f"{values.min():.4f}", "largest": f"{values.max():.4f}", "seeds": len(values)})
    return pd.DataFrame(rows)


def damping_table(reference: Path) -> pd.DataFrame:
    """What each candidate of a damping reached on the fitting subsets."""
    rows = []
    for path in sorted(reference.glob("*/damping_choice_*.csv")):
        table = pd.read_csv(path)
        cells = ", ".join(f"{row.value:g}: {row.lds:.3f}" for row in table.itertuples())
        first = {"method": method_title(table["method"][0]), "setting": table["setting"][0]}
        rows.append({"experiment": path.parent.name} | first | {"LDS": cells})
    return pd.DataFrame(rows)


def _with(reference: Path, file: str) -> list[str]:
    """Experiments that have a file, in the order of the tables; not images with texts, which have a page of their own."""
    found = {path.parent.name for path in reference.glob(f"*/{file}") if not path.parent.name.startswith(PAIRS)}
    return [name for name in LDS_ORDER if name in found] + sorted(found - set(LDS_ORDER))


def _without_language(reference: Path, file: str) -> list[str]:
    return [name for name in _with(reference, file) if not name.startswith(FAMILY)]


def _interval(row: pd.Series, value: str, low: str, high: str, digits: int = 3) -> str:
    if pd.isna(row[value]):
        return ""
    ends = "" if pd.isna(row[low]) else f" [{row[low]:.{digits}f}, {row[high]:.{digits}f}]"
    return f"{row[value]:.{digits}f}{ends}"
