"""What scores are good for: which metrics are computed, what stands in the table, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SEEDS, make_root, run_here

from tda.data.index_files import write_subset
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment
from tda.scores.score_files import load_score_file, load_scores, save_scores
from tda.statistics.detection import share_alike
from tda.system.errors import UserError
from tda.training.study import open_study

FEW = {"suspicions": ("loss", "out_of_fold", "kernel_posterior"), "self_influence": ("grad_dot",), "folds": 2, "highest": 3}


def draw(task: str, num_per_class: int) -> None:
    for part, count in (("train", num_per_class), ("test", 50)):
        write_subset(task_named(task), part, count, draw_seed=0, force=False)


def scored(task: str, num_per_class: int = 6) -> Experiment:
    """Members of a task, and their scores by two methods."""
    chosen = {"task": task, "num_per_class": num_per_class}
    draw(task, num_per_class)
    run_here("run_cnn_training.py", **chosen)
    run_here("tda_cnn_scripts/run_cnn_gd_and_gc.py", **chosen)
    return Experiment("cnn", task, num_per_class)


def judge(experiment: Experiment, **changed) -> tuple[str, pd.DataFrame]:
    named = {"model": "cnn", "task": experiment.task, "num_per_class": experiment.num_per_class}
    line = run_here("run_score_metrics.py", **named | FEW | changed)
    return line, pd.read_csv(experiment.results.path / "score_metrics.csv")


@pytest.fixture(scope="module")
def scored_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder with members and scores of a task with wrong labels, to be copied, never changed."""
    folder = tmp_path_factory.mktemp("flipped")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TDA_ROOT", str(folder))
        make_root(folder)
        scored("digits3_flipped20")
    return folder


@pytest.fixture
def flipped(scored_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    shutil.copytree(scored_root, tmp_path / "root")
    monkeypatch.setenv("TDA_ROOT", str(tmp_path / "root"))
    return Experiment("cnn", "digits3_flipped20", 6)


def test_every_metric_of_a_task_that_knows_its_truth(flipped: Experiment):
    line, table = judge(flipped)
    assert "left out group: task digits3_flipped20 knows no groups" in line and "wrong labels are found best by" in line
    scores = {
        "loss",
        "out_of_fold",
        "kernel_posterior",
        "self_influence_grad_dot",
        "mean_score_grad_dot",
        "mean_score_grad_cos",
    }
    found = table[table["metric"] == "wrong_labels_auc"]
    assert set(found["score"]) == scores and set(found["seeds"]) == {"one", "mean"} and (found["num_seeds"] == len(SEEDS)).all()
    assert found.loc[found["score"] != "out_of_fold", "difference"].notna().all()
    assert (table["value"].between(-1, 1) & (table["low"] <= table["value"] + 1e-6)).all()
    assert set(table["metric"]) >= {"class", "overlap", "randomised", "randomised_same_class"}
    assert all((flipped.results.path / f"score_metrics.{end}").exists() for end in ("png", "pdf"))
    study = open_study(flipped, "cpu")
    values = load_scores(flipped.results, "grad_cos").values.mean(axis=1, dtype=np.float64)
    labels = (split.labels.numpy() for split in (study.train, study.test))
    expected = share_alike(values.mean(axis=0), 3, *labels)
    row = table.set_index(["metric", "score", "seeds"]).loc["class", "grad_cos", "mean"]
    assert row["value"] == pytest.approx(expected, rel=1e-5)


def test_parts_that_come_one_by_one_share_a_table(flipped: Experiment):
    judge(flipped, metrics=("class",))
    _, both = judge(flipped, metrics=("overlap",))
    assert set(both["metric"]) == {"class", "overlap"}
    _, other = judge(flipped, metrics=("overlap",), highest=2)
    assert set(other["metric"]) == {"overlap"}


def test_groups_of_a_merged_task_are_its_subclasses(root):
    line, table = judge(scored("digits3_merged"), metrics=("all",), randomised=())
    assert "left out wrong_labels: task digits3_merged does not know its true labels" in line
    rows = table[(table["metric"] == "group") & (table["seeds"] == "one")]
    assert (rows["chance"] < 0.45).all() and (rows["value"] > rows["chance"]).all()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"metrics": ("group",)}, "metric group cannot be computed: task digits3_flipped20 knows no groups"),
        ({"metrics": ("beauty",)}, "unknown metric beauty; known ones are wrong_labels, class"),
        ({"metrics": ()}, "no metric is chosen"),
        ({"suspicions": ("doubt",)}, "unknown suspicion doubt"),
        ({"highest": 19}, "--highest 19 is more than the 18 training examples"),
        ({"highest": 0}, "--highest 0 is too small"),
        ({"folds": 1}, "--folds must lie in 2 to 18"),
        ({"num_seeds": 1}, "has one seed; intervals over seeds need 2 or more"),
        ({"self_influence": ("nothing",)}, "unknown method nothing"),
        # Before anything is trained: the method itself would miss those before epoch 15.
        ({"self_influence": ("trak_trajectory",)}, "no checkpoint of .* before epoch 11 is named"),
        ({"methods": ("if",)}, "there are no scores in"),
    ],
)
def test_unusable_settings_are_refused(flipped: Experiment, changed: dict, words: str):
    with pytest.raises(UserError, match=words):
        judge(flipped, **changed)


def test_members_must_be_trained(root):
    draw("digits3_flipped20", 6)
    with pytest.raises(UserError, match="has no checkpoints; train it first with run_cnn_training.py"):
        judge(Experiment("cnn", "digits3_flipped20", 6))


def test_rows_of_earlier_scores_go_when_others_come(flipped: Experiment):
    judge(flipped, metrics=("class", "wrong_labels"))
    for path in flipped.results.score_folder("grad_dot").glob("*/*.parquet"):
        values, train, test, info = load_score_file(path)
        save_scores(path, -values, train, test, info)
    _, table = judge(flipped, metrics=("class",), methods=("grad_cos",))
    assert not {"grad_dot", "mean_score_grad_dot"} & set(table["score"])
    assert {"grad_cos", "mean_score_grad_cos", "loss", "self_influence_grad_dot"} <= set(table["score"])
