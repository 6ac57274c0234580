"""The documents' tables of influence maps, from the CSVs under results/reference/."""

import re
from pathlib import Path

import pandas as pd

from tda.figures.shortcut import map_title


def shortcut_table(reference: Path) -> pd.DataFrame:
    """Area under the curve of "this pixel belongs to the patch" in every shortcut study: a row a study and map."""
    rows = []
    for path in _by_size(reference, "shortcut_merits.csv"):
        merits, misread = pd.read_csv(path), pd.read_csv(path.with_name("shortcut_misread.csv")).set_index("models").misread
        shares = f"{misread['with the patch']:.0%} / {misread['without the patch']:.0%}"
        experiment = f"{path.parent.name.removesuffix('_shortcut')}, {merits.seeds.max()} seeds"
        for name, found in merits.groupby("map", sort=False):
            cells = found.set_index(["models", "training_images", "smoothed", "seeds_averaged"])
            rows.append([experiment, shares, map_title(name), *(_area(cells, *key) for key in _SHORTCUT_COLUMNS.values())])
    return pd.DataFrame(rows, columns=["trained", "misread with / without", "map", *_SHORTCUT_COLUMNS])


_SHORTCUT_COLUMNS = {
    "one seed, plain": ("with the patch", "influential", False, False),
    "one seed, smoothed": ("with the patch", "influential", True, False),
    "mean over seeds, plain": ("with the patch", "influential", False, True),
    "mean over seeds, smoothed": ("with the patch", "influential", True, True),
    "the same, trained without the patch": ("without the patch", "influential", True, True),
    "the same, random training images": ("with the patch", "random", True, True),
}


def _by_size(reference: Path, name: str) -> list[Path]:
    """Files of that name in experiments' folders, numbers in the folders' names sorted as numbers."""
    return sorted(reference.glob(f"*/{name}"), key=lambda path: [part.zfill(9) for part in re.split(r"(\d+)", str(path))])


def _area(cells: pd.DataFrame, *key: object) -> str:
    if key not in cells.index:
        return ""
    row = cells.loc[key]
    return f"{row.area_under_curve:.2f} [{row.area_under_curve_low:.2f}, {row.area_under_curve_high:.2f}]"


def truth_table(reference: Path) -> pd.DataFrame:
    """Loss changes of steps on images of which a share of the pixels is kept or removed: a row an experiment and order."""
    rows = []
    for path in _by_size(reference, "map_truth.csv"):
        table = pd.read_csv(path)
        for (protocol, order), found in table.groupby(["protocol", "pixels"], sort=False):
            found = found[found.share.isin(_SHOWN_SHARES)]
            cells = {f"{share:.0%}": f"{change:.2f} [{low:.2f}, {high:.2f}]" for share, change, low, high in zip(
                found.share, found.loss_change, found.low, found.high, strict=True
            )}  # fmt: skip
            rows.append({"experiment": path.parent.name, "pixels": f"{_PROTOCOLS[protocol]} {_ORDERS[order]}", **cells})
    return pd.DataFrame(rows)


_SHOWN_SHARES = (0.01, 0.05, 0.1, 0.2, 0.5, 1)
_PROTOCOLS = {"keep": "kept", "delete": "removed"}
_ORDERS = {"map": "by the map", "random": "at random"}
