"""The extremes of the ensemble's scores, from files by blocks of columns and from gradients, against the whole matrix."""

import numpy as np
import pandas as pd
import pytest
from conftest import EXPERIMENT, Ensemble, run_here

from tda.scores.ensemble_scores import ensemble_scores
from tda.scores.score_files import load_score_file, load_scores, save_scores
from tda.steps.top_examples import STREAMED
from tda.system.errors import UserError

SCRIPT, CHOSEN = "run_top_examples.py", {"task": "digits3", "num_per_class": 2}


def expected_rows(scores, k: int) -> dict[tuple[int, str], list[int]]:
    """Training examples by test example and end, from the whole matrix."""
    whole, found = ensemble_scores(scores, 2), {}
    for column, test in enumerate(scores.test_indices):
        for end, sign in (("helpful", -1), ("harmful", 1)):
            order = np.argsort(sign * whole[:, column], kind="stable")[:k]
            found[int(test), end] = scores.train_indices[order].tolist()
    return found


def read(ensemble: Ensemble, method: str) -> pd.DataFrame:
    table = pd.read_csv(ensemble.study.results.path / "top_examples.csv")
    return table[table["method"] == method]


def grouped(table: pd.DataFrame) -> dict[tuple[int, str], list[int]]:
    return {key: rows.sort_values("place")["train_idx"].tolist() for key, rows in table.groupby(["test_idx", "end"])}


# The smaller budget takes a column at a time.
@pytest.mark.parametrize("budget", [4.0, 1e-9])
def test_extremes_of_score_files_are_those_of_the_whole_matrix(ensemble: Ensemble, budget: float):
    run_here("run_tda.py", **CHOSEN, methods={"grad_dot": {}, "trak": {}})
    line = run_here(SCRIPT, **CHOSEN, k=3, num_checkpoints=2, memory_budget=budget)
    assert line.startswith("wrote top_examples.csv of 150 test examples by grad_dot, trak, in /")
    for method in ("grad_dot", "trak"):
        scores = load_scores(EXPERIMENT.results, method)
        table = read(ensemble, method)
        assert grouped(table) == expected_rows(scores, 3)
        first = table[(table["end"] == "helpful") & (table["place"] == 1)].sort_values("test_idx")
        whole = ensemble_scores(scores, 2)[:, np.argsort(scores.test_indices)]
        np.testing.assert_allclose(first["score"], whole.max(axis=0), rtol=1e-5)
        labels = dict(zip(ensemble.study.train.indices.tolist(), ensemble.study.train.labels.tolist(), strict=True))
        assert (table["train_label"] == table["train_idx"].map(labels)).all()


def test_more_places_than_training_examples_are_all_of_them(ensemble: Ensemble):
    run_here("run_tda.py", **CHOSEN, methods={"grad_dot": {}})
    run_here(SCRIPT, **CHOSEN, k=10**12, num_checkpoints=2)
    assert grouped(read(ensemble, "grad_dot")) == expected_rows(load_scores(EXPERIMENT.results, "grad_dot"), 6)


def test_streamed_extremes_are_those_of_the_score_files(ensemble: Ensemble):
    run_here("run_tda.py", **CHOSEN, methods={"trak_projected": {}})
    run_here(SCRIPT, **CHOSEN, k=6)
    run_here(SCRIPT, **CHOSEN, k=6, streamed=True)
    files, streamed = (
        read(ensemble, method).set_index(["test_idx", "end", "place"]) for method in ("trak_projected", STREAMED)
    )
    scale = files["score"].abs().max()
    np.testing.assert_allclose(streamed.loc[files.index, "score"], files["score"], rtol=1e-4, atol=1e-5 * scale)
    assert (streamed.loc[files.index, "train_idx"] == files["train_idx"]).mean() > 0.99


def test_columns_of_a_file_are_checked_like_the_whole(ensemble: Ensemble):
    run_here("run_tda.py", **CHOSEN, methods={"grad_dot": {}})
    path = ensemble.study.results.score_file("grad_dot", 0, ensemble.study.plan.kept_epochs[-1])
    values, train, test, info = load_score_file(path)
    part = load_score_file(path, slice(3, 9))
    np.testing.assert_array_equal(part[0], values[:, 3:9])
    np.testing.assert_array_equal(part[2], test[3:9])
    content = bytearray(path.read_bytes())
    # A bit of a score in a column that is not asked for.
    content[content.index(values[:, 20].tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="do not match its checksum"):
        load_score_file(path, slice(0, 1))


def test_files_of_before_a_setting_existed_count_as_of_its_default(ensemble: Ensemble):
    run_here("run_tda.py", **CHOSEN, methods={"trak_projected": {}})
    for path in ensemble.study.results.score_folder("trak_projected").glob("*/*.parquet"):
        values, train, test, info = load_score_file(path)
        del info["settings"]["half_precision"]
        save_scores(path, values, train, test, info)
    assert "wrote 0 score files" in run_here("run_tda.py", **CHOSEN, methods={"trak_projected": {}})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"k": 0}, "--k 0 is too small"),
        ({"memory_budget": 1e300}, "--memory_budget 1e\\+300 is no amount"),
        ({"memory_budget": 0.0}, "--memory_budget 0.0 is no amount"),
        ({"streamed": True, "methods": ("trak",)}, "give one of them"),
        ({"streamed": True, "memory_budget": 1e-6}, "too small for proj_dim=2048"),
        ({}, "there are no scores"),
    ],
)
def test_bad_settings_are_refused(ensemble: Ensemble, settings: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):
        run_here(SCRIPT, **CHOSEN, **settings)


def test_rows_of_earlier_scores_do_not_stay_beside_others(ensemble: Ensemble):
    run_here("run_tda.py", **CHOSEN, methods={"grad_dot": {}, "repsim": {}})
    run_here(SCRIPT, **CHOSEN, k=3)
    for path in ensemble.study.results.score_folder("repsim").glob("*/*.parquet"):
        values, train, test, info = load_score_file(path)
        save_scores(path, -values, train, test, info)
    run_here(SCRIPT, **CHOSEN, k=3, methods=("grad_dot",))
    assert len(read(ensemble, "repsim")) == 0 and len(read(ensemble, "grad_dot")) == 150 * 2 * 3
