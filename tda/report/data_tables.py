"""The list of training examples that should perhaps go, as the debiasing step wrote it."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from tda.experiments.folders import ResultsFolder
from tda.report.overview import optional_table, plain
from tda.system.files import sha256

CANDIDATES = "removal_candidates.csv"
MOST_ROWS = 500


def removal_candidates(folder: ResultsFolder, outdated: Collection[str] = ()) -> dict | None:
    """The first rows of removal_candidates.csv as plain values, with its columns and its length.

    None if it is not there, or if the hash of its content is among the outdated ones.
    """
    path = folder.path / CANDIDATES
    table = optional_table(path)
    if table is None or sha256(path.read_bytes()) in outdated:
        return None
    rows = [[_cell(value) for value in row] for row in table.head(MOST_ROWS).itertuples(index=False)]
    return {"name": CANDIDATES, "columns": list(table.columns), "rows": rows, "total": len(table)}


def _cell(value: object) -> object:
    """A cell as JSON has it: a number, a word, whether something is so, or nothing."""
    if pd.isna(value):
        return None
    known = value.item() if isinstance(value, np.generic) else value
    return plain(known) if isinstance(known, float) else known
