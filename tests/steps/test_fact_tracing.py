"""The step that traces facts: its tables against scores and trainings, what it skips, and what it refuses."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_facts
from conftest import make_root, run_here

from tda.experiments.manifest import read_manifest
from tda.scores.score_files import load_scores
from tda.statistics.pair_statistics import pair_statistics
from tda.system.errors import UserError

FOLDER = tiny_facts.EXPERIMENT.results
CHOSEN = {
    **tiny_facts.CHOSEN,
    "methods": ("grad_cos", "bm25"),
    "num_facts": 6,
    "rank": 50,
    "found": 3,
    "removed": 2,
    "removed_by": ("grad_cos", "bm25"),
    "num_retrainings": 2,
    "facts_at_once": 3,
}


@pytest.fixture(scope="module")
def traced_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny ensemble, scored and traced."""
    folder = tmp_path_factory.mktemp("traced")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TDA_ROOT", str(folder))
        make_root(folder)
        tiny_facts.prepare(folder, monkeypatch)
        run_here("run_language_training.py", **tiny_facts.CHOSEN)
        run_here("run_fact_tracing.py", **CHOSEN, alone=2)
    return folder


@pytest.fixture
def traced(traced_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "root"
    shutil.copytree(traced_root, folder)
    monkeypatch.setenv("TDA_ROOT", str(folder))
    tiny_facts.prepare(folder, monkeypatch)
    return folder


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER.path / f"{name}.csv")


def test_which_texts_state_the_answer(traced: Path):
    found, asked, texts = table("fact_tracing").set_index("method"), table("asked_facts"), table("fact_texts")
    assert set(found.index) == {"grad_cos", "bm25", "random", "oracle"} and len(asked) == 6 and (asked["stating"] == 2).all()
    assert found.loc["oracle", ["mrr", "recall"]].tolist() == [1.0, 1.0]
    scores = load_scores(FOLDER, "grad_cos")
    mean = scores.values.mean(axis=(0, 1), dtype=np.float64)
    facts = tiny_facts.statements("train").facts
    ranks = []
    for row in asked.itertuples():
        column = list(scores.test_indices).index(row.test_idx)
        order = np.argsort(-mean[:, column], kind="stable")
        states = [facts[scores.train_indices[text]] == (row.fact,) for text in order]
        ranks.append(1 / (1 + states.index(True)))
        first = texts[(texts["method"] == "grad_cos") & (texts["fact"] == row.fact)]
        assert first["train_idx"].tolist() == scores.train_indices[order[:3]].tolist()
        assert first["states_it"].tolist() == states[:3]
        statistics = pair_statistics(scores, 2)
        np.testing.assert_allclose(first["q"], statistics.q_value[order[:3], column], rtol=1e-4)
        np.testing.assert_allclose(first["std"], statistics.std[order[:3], column], rtol=1e-4)
    assert found.loc["grad_cos", "mrr"] == pytest.approx(np.mean(ranks), rel=1e-5)
    assert np.isnan(found.loc["bm25", "significant_of_stating"]) and found.loc["bm25", "recall"] > 0.9
    assert texts.loc[texts["method"] == "bm25", "q"].isna().all()


def test_which_texts_make_the_model_give_it(traced: Path):
    falling = table("fact_removal").set_index(["method", "selection"])
    assert {"grad_cos", "bm25", "random", "oracle"} == set(falling.index.get_level_values(0))
    assert falling.loc[("oracle", "-"), "fall"] > falling.loc[("random", "-"), "fall"]
    row = falling.loc[("grad_cos", "highest")]
    assert row["removed"] == 2 and row["facts"] == 6 and row["seeds"] == 2
    assert row["more_than_oracle"] == pytest.approx(row["fall"] - falling.loc[("oracle", "-"), "fall"], abs=1e-4)
    assert np.isfinite(row["more_than_random"])
    # Of six facts there is no interval.
    assert np.isnan(row["more_than_random_low"]) and np.isnan(row["more_than_random_high"])
    assert np.isnan(falling.loc[("bm25", "highest"), "more_than_bm25"])
    alone = table("fact_removal_alone")
    assert len(alone) == 2 and (alone["method"] == "grad_cos").all()
    assert (FOLDER.path / "fact_tracing.png").exists()
    record = read_manifest(FOLDER)["steps"]["fact tracing"]
    assert set(record["made_from"]) == {"grad_cos", "bm25"} and "fact_removal.csv" in record["files"]


def test_a_second_run_trains_nothing_and_writes_the_same(traced: Path, monkeypatch: pytest.MonkeyPatch):
    before = {path.name: path.read_bytes() for path in FOLDER.path.glob("*fact*")}
    monkeypatch.setattr("tda.training.retrained_logits.train_many", None)
    run_here("run_fact_tracing.py", **CHOSEN, alone=2)
    assert {path.name: path.read_bytes() for path in FOLDER.path.glob("*fact*")} == before
    run_here("run_fact_tracing.py", **CHOSEN | {"methods": ("bm25",), "removed_by": ("bm25",)})
    assert set(table("fact_tracing")["method"]) == {"grad_cos", "bm25", "random", "oracle"}
    run_here("run_fact_tracing.py", **CHOSEN | {"num_facts": 5, "removed": 0})
    assert set(table("fact_tracing")["facts"]) == {5}


def test_rows_of_another_level_do_not_stand_beside_each_other(traced: Path):
    for level, others in ((0.05, {"grad_cos"}), (0.2, set())):
        run_here("run_fact_tracing.py", **CHOSEN | {"methods": ("bm25",), "removed": 0, "level": level})
        assert set(table("fact_tracing")["method"]) == {"bm25", "random", "oracle"} | others


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"num_facts": 0}, "--num_facts 0 is too small"),
        ({"removed": -1}, "--removed and --alone must be 0 or more"),
        ({"removed": 24}, "--removed 24 leaves nothing of 24 training texts"),
        ({"num_retrainings": 0}, "--num_retrainings 0 is too small"),
        ({"level": 1.0}, "--level 1.0 is no level of q"),
        ({"removed_by": ("trak",)}, "--removed_by names trak, which is not among the methods grad_cos, bm25"),
        ({"methods": ("no_such",), "removed_by": ()}, "unknown method no_such"),
    ],
)
def test_unusable_settings_are_refused(traced: Path, changed: dict, words: str):
    with pytest.raises(UserError, match=words):
        run_here("run_fact_tracing.py", **CHOSEN | changed)


def test_tasks_without_facts_and_models_without_training_are_refused(ensemble, monkeypatch: pytest.MonkeyPatch):
    others = {"model": "cnn", "task": "digits3", "num_per_class": 2}
    with pytest.raises(UserError, match="task digits3 asks for no facts"):
        run_here("run_fact_tracing.py", **CHOSEN | others)
    tiny_facts.prepare(ensemble.root, monkeypatch)
    with pytest.raises(UserError, match="gpt_few_facts_24pc has no checkpoints; train it first with run_language_training.py"):
        run_here("run_fact_tracing.py", **CHOSEN)
