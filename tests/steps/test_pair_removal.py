"""The step that leaves pairs out: its tables against scores, what it skips, and what it refuses."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_pairs
from conftest import make_root, run_here

from tda.experiments.manifest import read_manifest
from tda.scores.ensemble_scores import ensemble_scores
from tda.scores.score_files import load_scores
from tda.statistics.pair_statistics import pair_statistics
from tda.system.errors import UserError

FOLDER = tiny_pairs.EXPERIMENT.results
CHOSEN = {
    **tiny_pairs.CHOSEN,
    "methods": ("trak", "repsim"),
    "num_targets": 3,
    "rank": 12,
    "removed": 4,
    "removed_by": ("trak", "repsim"),
    "num_retrainings": 2,
    "listed": 2,
    "shown": 2,
}


@pytest.fixture(scope="module")
def removed_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ensemble, scored, with pairs left out."""
    folder = tmp_path_factory.mktemp("pairs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TDA_ROOT", str(folder))
        make_root(folder)
        tiny_pairs.prepare(folder)
        base = tiny_pairs.clip_folder(folder / "clip_base")
        run_here("run_clip_training.py", **tiny_pairs.CHOSEN, base=str(base))
        run_here("run_pair_removal.py", **CHOSEN)
    return folder


@pytest.fixture
def removed(removed_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "root"
    shutil.copytree(removed_root, folder)
    # The members name their base by its path.
    monkeypatch.setenv("TDA_ROOT", str(folder))
    return folder


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER.path / f"{name}.csv")


def test_tables_and_figures(removed: Path):
    retrieval, pairs, falling = table("retrieval"), table("helpful_pairs"), table("pair_removal").set_index("method")
    assert retrieval["seed_id"].tolist() == ["0", "1", "2", "mean", "low", "high"] and (retrieval["pairs"] == 12).all()
    assert set(falling.index) == {"trak", "repsim", "random"} and (falling["removed"] == 4).all()
    difference = falling.loc["trak", "cosine_fall"] - falling.loc["random", "cosine_fall"]
    assert falling.loc["trak", "more_than_random"] == pytest.approx(difference, abs=1e-5)
    assert (falling["targets"] == 3).all() and (falling["seeds"] == 2).all()
    scores = load_scores(FOLDER, "trak")
    whole, statistics = ensemble_scores(scores, 2), pair_statistics(scores, 2)
    for target, rows in pairs[pairs["method"] == "trak"].groupby("test_idx"):
        column = list(scores.test_indices).index(target)
        order = np.argsort(-whole[:, column], kind="stable")[:2]
        assert rows["train_idx"].tolist() == scores.train_indices[order].tolist()
        np.testing.assert_allclose(rows["q"], statistics.q_value[order, column], rtol=1e-4)
    pool = tiny_pairs.pairs("train").examples[1]
    assert all(pool[row.train_idx] == row.caption for row in pairs.itertuples())
    record = read_manifest(FOLDER)["steps"]["pair removal"]
    assert set(record["made_from"]) == {"trak", "repsim"}
    for name in ("pair_removal.png", "helpful_pairs.png", "retrieval.csv", "pair_removal.csv"):
        assert name in record["files"] and (FOLDER.path / name).exists()


def test_a_second_run_trains_nothing_and_writes_the_same(removed: Path, monkeypatch: pytest.MonkeyPatch):
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in FOLDER.path.glob("*pair*.csv")}

    before = files()
    monkeypatch.setattr("tda.training.retrained_logits.train_many", None)
    run_here("run_pair_removal.py", **CHOSEN)
    assert files() == before
    run_here("run_pair_removal.py", **CHOSEN | {"methods": ("repsim",), "removed_by": ("repsim",)})
    assert set(table("pair_removal")["method"]) == {"trak", "repsim", "random"}
    (FOLDER.path / "pair_removal.csv").unlink()
    run_here("run_pair_removal.py", **CHOSEN | {"removed": 0})
    assert not (FOLDER.path / "pair_removal.csv").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"num_targets": 0}, "--num_targets 0 is too small"),
        ({"removed": -1}, "--removed must be 0 or more"),
        ({"removed": 23}, "--removed 23 leaves nothing of 24 training pairs"),
        ({"num_retrainings": 0}, "--num_retrainings 0 is too small"),
        ({"removed_by": ("if",)}, "--removed_by names if, which is not among the methods trak, repsim"),
        ({"methods": ("no_such",), "removed_by": ()}, "unknown method no_such"),
        ({"task": "digits3", "model": "cnn", "num_per_class": 2}, "has no checkpoints"),
    ],
)
def test_unusable_settings_are_refused(removed: Path, changed: dict, words: str):
    with pytest.raises(UserError, match=words):
        run_here("run_pair_removal.py", **CHOSEN | changed)


def test_pvalues_and_the_page_show_pictures_with_texts(removed: Path):
    run_here("run_compute_pvalues.py", **tiny_pairs.CHOSEN)
    run_here("run_report.py", **tiny_pairs.CHOSEN)
    page = (FOLDER.path / "report.html").read_text()
    assert "data:image/" in page and "it is green" in page
    assert list(FOLDER.path.glob("attributions_test_*.png"))
