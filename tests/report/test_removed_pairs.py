"""What the page says of pairs is what the step's two tables say."""

from pathlib import Path

import pandas as pd
import pytest
from synthetic import EXPERIMENT

from tda.report.removed_pairs import read_removed_pairs
from tda.system.errors import UserError

FOLDER = EXPERIMENT.results
RECALLED = {"seed_id": ["0", "1", "mean", "low", "high"], "pairs": 20}
RECALLED |= {f"{side}_recall_{k}": [0.1, 0.3, k / 50, 0.0, 1.0] for side in ("text", "image") for k in (1, 5, 10)}
ENDS = ("", "_low", "_high")
FELL = {"method": ["random", "trak", "trak"], "removed": [50, 50, 10], "targets": 8, "seeds": 5}
FELL |= {f"cosine_fall{end}": [0.0 + shift, 0.2 + shift, 0.9] for end, shift in zip(ENDS, (0, -0.1, 0.1), strict=True)}
FELL |= {f"reciprocal_rank_fall{end}": [0.0, 0.3, 0.9] for end in ENDS}
FELL |= {f"more_than_random{end}": [None, 0.2 + shift, 0.9] for end, shift in zip(ENDS, (0, -0.1, 0.1), strict=True)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    FOLDER.path.mkdir(parents=True)
    return FOLDER.path


def test_rows_are_those_of_the_most_pairs_left_out(folder: Path):
    assert read_removed_pairs(FOLDER) == {}
    pd.DataFrame(RECALLED).to_csv(folder / "retrieval.csv", index=False)
    alone = read_removed_pairs(FOLDER)
    assert alone["pairs"] == 20 and alone["recalls"][5] == (0.1, 0.1) and alone["rows"] == [] and alone["removed"] == 0
    pd.DataFrame(FELL).to_csv(folder / "pair_removal.csv", index=False)
    found = read_removed_pairs(FOLDER)
    assert (found["removed"], found["targets"], found["seeds"]) == (50, 8, 5)
    assert [row["title"] for row in found["rows"]] == ["TRAK", "random pairs"]
    assert found["rows"][0]["fall"] == pytest.approx((0.2, 0.1, 0.3)) and found["rows"][1]["more"] is None


@pytest.mark.parametrize("name", ["retrieval", "pair_removal"])
def test_a_damaged_table_is_one_sentence(name: str, folder: Path):
    pd.DataFrame(RECALLED).to_csv(folder / "retrieval.csv", index=False)
    pd.DataFrame(FELL).to_csv(folder / "pair_removal.csv", index=False)
    (folder / f"{name}.csv").write_text("method\ntrak\n")
    with pytest.raises(UserError, match=r"is damaged; delete both and run run_pair_removal.py again"):
        read_removed_pairs(FOLDER)
