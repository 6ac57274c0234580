"""What the page says of facts is what the step's two tables say."""

from pathlib import Path

import pandas as pd
import pytest
from synthetic import EXPERIMENT

from tda.report.traced_facts import read_traced_facts
from tda.system.errors import UserError

FOLDER = EXPERIMENT.results
FOUND = {
    "method": ["random", "bm25", "trak"],
    "facts": 3,
    "found": 10,
    "mrr": [0.1, 1.0, 0.5],
    "mrr_low": [0.0, 1.0, 0.25],
    "mrr_high": [0.2, 1.0, 0.75],
    "recall": [0.0, 1.0, 0.5],
    "recall_low": [0.0, 1.0, 0.25],
    "recall_high": [0.0, 1.0, 0.75],
}
FELL = {
    "method": ["random", "trak", "trak", "trak"],
    "selection": ["-", "highest", "significant", "highest"],
    "removed": [3, 3, 3, 1],
    "seeds": 2,
    "fall": [0.0, 4.0, 9.0, 1.0],
    "fall_low": [-1.0, 2.0, 8.0, 0.5],
    "fall_high": [1.0, 6.0, 10.0, 1.5],
    "said_before": 1.0,
    "said_after": [1.0, 0.25, 0.0, 0.75],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    FOLDER.path.mkdir(parents=True)
    return FOLDER.path


def test_methods_stand_by_how_well_they_find_with_the_fall_of_their_highest_texts(folder: Path):
    assert read_traced_facts(FOLDER) == {}
    pd.DataFrame(FOUND).to_csv(folder / "fact_tracing.csv", index=False)
    alone = read_traced_facts(FOLDER)
    assert (alone["facts"], alone["found"], alone["removed"]) == (3, 10, 0) and alone["rows"][0]["fall"] is None
    pd.DataFrame(FELL).to_csv(folder / "fact_removal.csv", index=False)
    found = read_traced_facts(FOLDER)
    assert (found["removed"], found["seeds"]) == (3, 2)
    assert [row["title"] for row in found["rows"]] == ["BM25", "TRAK", "random texts"]
    bm25, trak, random = found["rows"]
    assert bm25["mrr"] == (1.0, 1.0, 1.0) and bm25["fall"] is None and bm25["said"] is None
    assert trak["fall"] == (4.0, 2.0, 6.0) and (trak["said_before"], trak["said"]) == (1.0, 0.25)
    assert random["recall"] == (0.0, 0.0, 0.0) and random["fall"] == (0.0, -1.0, 1.0)


def test_a_damaged_table_is_one_sentence(folder: Path):
    (folder / "fact_tracing.csv").write_text("method,facts\nbm25,3\n")
    with pytest.raises(UserError, match=r"fact_tracing.csv or fact_removal.csv in .* is damaged; delete both"):
        read_traced_facts(FOLDER)
