"""What the page says of images with texts: how well the members find pairs, and what leaving helpful pairs out does."""

from collections.abc import Mapping

import pandas as pd

from tda.debiasing.removal import RANDOM
from tda.experiments.folders import ResultsFolder
from tda.methods.catalogue import method_title
from tda.report.overview import interval_of, optional_table
from tda.system.errors import UserError

_COUNTS = (1, 5, 10)


def read_removed_pairs(folder: ResultsFolder) -> dict:
    """Both tables of run_pair_removal.py as values; empty where the step was not run.

    `pairs`: of the test subset; `recalls`: by count the mean share of own texts, and of own images, among so many first;
    `removed`, `targets`, `seeds`: pairs left out, of how many targets, and trainings, 0 where none was; `rows`: by method
    `fall` (of the target's cosine), `rank_fall` (of 1 / rank) and `more` (fall beyond that of random pairs), each None or
    (value, low, high). Raises UserError for a table that is damaged.
    """
    retrieval, falling = (optional_table(folder.path / f"{name}.csv") for name in ("retrieval", "pair_removal"))
    if retrieval is None:
        return {}
    try:
        mean = retrieval[retrieval["seed_id"].astype(str) == "mean"].iloc[0]
        recalls = {count: (float(mean[f"text_recall_{count}"]), float(mean[f"image_recall_{count}"])) for count in _COUNTS}
        return {"pairs": int(mean["pairs"]), "recalls": recalls} | _falls(falling)
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(
            f"retrieval.csv or pair_removal.csv in {folder.path} is damaged; delete both and run run_pair_removal.py again"
        ) from error


def _falls(falling: pd.DataFrame | None) -> dict:
    if falling is None:
        return {"removed": 0, "targets": 0, "seeds": 0, "rows": []}
    chosen = falling[falling["removed"] == falling["removed"].max()]
    ordered = chosen.sort_values("cosine_fall", ascending=False, kind="stable").to_dict("records")
    counts = {name: int(ordered[0][name]) for name in ("removed", "targets", "seeds")}
    return counts | {"rows": [_row(row) for row in ordered]}


def _row(row: Mapping) -> dict:
    name = row["method"]
    return {
        "method": name,
        "title": "random pairs" if name == RANDOM else method_title(name),
        "fall": interval_of(row, "cosine_fall"),
        "rank_fall": interval_of(row, "reciprocal_rank_fall"),
        "more": interval_of(row, "more_than_random") if "more_than_random" in row else None,
    }
