"""Debiasing: what is chosen by which part of the test subset, what is trained on, what is written, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import EXPERIMENT, SEEDS, Ensemble, contents, run_here

from tda.data.index_files import write_subset
from tda.data.tasks import task_named
from tda.debiasing.fold_retraining import kept_probabilities
from tda.debiasing.parts import divided
from tda.debiasing.suspicion import Suspects
from tda.experiments.folders import Experiment
from tda.scores.score_files import load_score_file, load_scores, save_scores
from tda.statistics.group_alignment import alignment_weights, pseudo_groups
from tda.statistics.prediction_metrics import losses_of, prediction_metrics
from tda.system.errors import UserError
from tda.training.evaluation import logits_of_split
from tda.training.members import built, load_members
from tda.training.retrained_logits import ChangedTraining, LogitStore
from tda.training.study import open_study

QUICK = {
    "selections": ("negative", "significant", "highest_loss"),
    "actions": ("remove",),
    "shares": (0.34,),
    "num_retrainings": 2,
    "random_draws": 1,
    "shown": 4,
}


@pytest.fixture
def scored(ensemble: Ensemble) -> Ensemble:
    run_here("tda_cnn_scripts/run_cnn_gd_and_gc.py", num_per_class=2)
    return ensemble


def debias(**changed) -> str:
    return run_here("run_data_debiasing.py", **{"experiment": EXPERIMENT.name} | QUICK | changed)


def table() -> pd.DataFrame:
    return pd.read_csv(EXPERIMENT.results.path / "data_debiasing.csv")


def row_of(found: pd.DataFrame, selection: str, method: str = "-", number: str = "34%", action: str = "remove") -> pd.Series:
    (row,) = [
        row
        for _, row in found.iterrows()
        if tuple(row[["selection", "method", "number", "action"]]) == (selection, method, number, action)
    ]
    return row


def member_logits(ensemble: Ensemble) -> np.ndarray:
    members = [ensemble.members(15, seed_id=seed_id)[0] for seed_id in range(len(SEEDS))]
    return np.stack([logits_of_split(member.model, ensemble.study.inputs(ensemble.study.test)).numpy() for member in members])


def test_the_lowest_alignment_goes_and_the_report_part_judges(scored: Ensemble):
    line = debias()
    assert "data_debiasing.csv" in line and "looked at" in line
    study, labels = scored.study, scored.study.test.labels.numpy()
    parts = divided(labels, 0.5, 0)
    logits = member_logits(scored)
    losses = losses_of(logits, labels).mean(axis=0)
    weights = np.zeros(150)
    weights[parts.selection] = alignment_weights(labels[parts.selection], losses[parts.selection])
    scores = load_scores(EXPERIMENT.results, "grad_cos").values.mean(axis=1, dtype=np.float64)
    alignment = (scores @ weights).mean(axis=0)
    counted = torch.from_numpy(np.sort(np.argsort(alignment)[2:]))
    trained = LogitStore(study, study.test).load([ChangedTraining(counted, seed) for seed in SEEDS[:2]], "").numpy()
    correct = logits.argmax(2) == labels
    accuracies = [correct[:, parts.selection][:, labels[parts.selection] == label].mean() for label in range(3)]
    report = parts.report

    def judged(of_seeds: np.ndarray) -> list[dict]:
        target = labels[report] == int(np.argmin(accuracies))
        return [prediction_metrics(one[report], labels[report], labels[report], target) for one in of_seeds]

    found = table()
    row, nothing = row_of(found, "negative", "grad_cos"), row_of(found, "nothing", number="-", action="-")
    after, before = judged(trained), judged(logits[:2])
    for metric in after[0]:
        assert row[metric] == pytest.approx(np.mean([one[metric] for one in after]), rel=1e-4)
        assert nothing[metric] == pytest.approx(np.mean([one[metric] for one in before]), rel=1e-4)
        expected = np.mean([one[metric] - other[metric] for one, other in zip(after, before, strict=True)])
        assert row[f"{metric}_minus_all"] == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert row["removed"] == 2 and row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]
    by_chance = row_of(found, "random")
    assert row["accuracy_minus_random"] == pytest.approx(row["accuracy"] - by_chance["accuracy"], abs=1e-5)


def test_every_checkpoint_s_scores_count(scored: Ensemble):
    """The published code of D3M scores but the last checkpoint."""
    debias(selections=("negative",), num_checkpoints=5, num_retrainings=10)
    assert (table()["retrainings"] == len(SEEDS)).all()
    listed = pd.read_csv(EXPERIMENT.results.path / "removal_candidates.csv").set_index("index").loc[scored.study.train.indices]
    parts, labels = divided(scored.study.test.labels.numpy(), 0.5, 0), scored.study.test.labels.numpy()
    losses = losses_of(member_logits(scored), labels).mean(axis=0)[parts.selection]
    weights = alignment_weights(labels[parts.selection], losses)
    scores = load_scores(EXPERIMENT.results, "grad_dot").values[..., parts.selection].astype(np.float64) @ weights
    np.testing.assert_allclose(listed["grad_dot_mean"], scores.mean(axis=(0, 1)), rtol=1e-4)
    np.testing.assert_allclose(listed["grad_dot_std"], scores.mean(axis=1).std(axis=0, ddof=1), rtol=1e-4)
    assert not np.allclose(listed["grad_dot_mean"], scores[:, -1].mean(axis=0), rtol=1e-3)


def test_what_is_done_is_found_again_and_other_targets_stand_beside(scored: Ensemble, monkeypatch: pytest.MonkeyPatch):
    debias()
    files = contents(EXPERIMENT.results.path, "*.csv", "*.png", "galleries/*.png")
    monkeypatch.setattr("tda.training.retrained_logits.train_many", None)
    debias()
    assert contents(EXPERIMENT.results.path, "*.csv", "*.png", "galleries/*.png") == files
    monkeypatch.undo()
    monkeypatch.setenv("TDA_ROOT", str(scored.root))
    before = table()
    debias(matter="all", methods=("grad_dot",))
    found = table()
    assert set(found["target"]) == {"groups", "all"} and (found["target"] == "groups").sum() == len(before)
    everyone = found[(found["target"] == "all") & (found["selection"] == "nothing")].iloc[0]
    assert everyone["target_accuracy"] == everyone["accuracy"]
    assert {"negative_grad_dot.png", "negative_grad_cos_known.png", "highest_loss.png"} <= {
        path.name for path in (EXPERIMENT.results.path / "galleries").iterdir()
    }


def test_pseudo_groups_of_each_method_s_scores_choose_where_groups_are_unknown(scored: Ensemble):
    debias(groups=("auto",), methods=("grad_cos",), selections=("negative",))
    listed = pd.read_csv(EXPERIMENT.results.path / "removal_candidates.csv").set_index("index").loc[scored.study.train.indices]
    labels = scored.study.test.labels.numpy()
    chosen = divided(labels, 0.5, 0).selection
    losses = losses_of(member_logits(scored), labels).mean(axis=0)[chosen]
    scores = load_scores(EXPERIMENT.results, "grad_cos").values[..., chosen].mean(axis=1, dtype=np.float64)
    weights = alignment_weights(pseudo_groups(scores.mean(axis=0), labels[chosen]), losses)
    np.testing.assert_allclose(listed["grad_cos_auto_mean"], (scores @ weights).mean(axis=0), rtol=1e-4)


def test_every_selection_that_is_possible_and_relabelling(scored: Ensemble, tmp_path: Path):
    pytest.importorskip("cleanlab")
    path = tmp_path / "hard.txt"
    path.write_text("".join(f"{int(index)}\n" for index in scored.study.test.indices[:40]))
    line = debias(selections=(), actions=("remove", "relabel"), matter=str(path), num_folds=2, fold_seeds=1, neighbours=2)
    assert "left out group_balanced" in line
    found = table()
    assert set(found["selection"]) >= {
        *("negative", "positive", "class_balanced", "highest_loss", "self_influence", "confident_learning", "forgetting"),
        *("neighbours", "random", "nothing"),
    }
    assert found["target"].str.startswith("hard.txt ").all() and (found["groups"] == "-").all()
    study = scored.study
    probabilities = kept_probabilities(study, 2, SEEDS[:1], False, "")
    lowest = np.argsort(probabilities[np.arange(6), study.train.labels])[:2]
    labels = study.train.labels.numpy().copy()
    labels[lowest] = probabilities[lowest].argmax(axis=1)
    changed = None if (labels == study.train.labels.numpy()).all() else torch.from_numpy(labels)
    trainings = [ChangedTraining(torch.arange(6), seed, changed) for seed in SEEDS[:2]]
    report = divided(study.test.labels.numpy(), 0.5, 0).report
    correct = LogitStore(study, study.test).load(trainings, "").argmax(2)[:, report] == study.test.labels[report]
    row = row_of(found, "confident_learning", action="relabel")
    assert row["accuracy"] == pytest.approx(float(correct.double().mean()), rel=1e-5)
    assert not {"positive", "class_balanced"} & set(found[found["action"] == "relabel"]["selection"])


def test_random_removal_alone_and_words_that_are_given_twice(scored: Ensemble):
    assert "looked at" not in debias(selections=("random",))
    assert table()["selection"].tolist() == ["nothing", "random"]
    debias(selections=("negative",), groups=("classes", "classes"), actions=("remove", "remove"), methods=("grad_cos",))
    found = table()
    assert not found.duplicated(["target", "groups", "selection", "method", "action", "number"]).any()
    assert (found[found["selection"] == "negative"]["groups"] == "classes").all()


def test_scores_of_one_s_own_are_a_selection(scored: Ensemble, tmp_path: Path):
    path, train = tmp_path / "mine.csv", scored.study.train
    pd.DataFrame({"index": train.indices.numpy()[::-1], "score": [3, -1, 5, 4, -2, 9]}).to_csv(path, index=False)
    debias(selections=("highest_loss",), own_scores=(str(path),))
    counted = torch.tensor([0, 2, 3, 5])
    report = divided(scored.study.test.labels.numpy(), 0.5, 0).report
    trainings = [ChangedTraining(counted, seed) for seed in SEEDS[:2]]
    logits = LogitStore(scored.study, scored.study.test).load(trainings, "")[:, report]
    accuracy = (logits.argmax(2) == scored.study.test.labels[report]).double().mean()
    assert row_of(table(), "own_scores", "mine")["accuracy"] == pytest.approx(float(accuracy), rel=1e-5)
    for content, words in (
        ("index,score\n1,2\n", "no finite score for training example"),
        ("a,b\n1,2\n", "no columns index and score"),
        ("index,score\n1,2\n1,3\n", "training example 1 more than once"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=words):
            debias(own_scores=(str(path),))
    with pytest.raises(UserError, match="nowhere.csv is missing"):
        debias(own_scores=("nowhere.csv",))


UNUSABLE = [
    ({"shares": ()}, "take none or all"),
    ({"shares": (0.34, 0.01)}, "--shares 0.34,0.01 of 6 training examples take none or all"),
    ({"selections": ("worst",)}, "--selections has no worst; choose of negative"),
    ({"selections": ("group_balanced",)}, "needs groups of the training examples"),
    ({"actions": ("burn",)}, "--actions has no burn"),
    ({"groups": ("sex",)}, "--groups has no sex"),
    ({"matter": "somewhere.txt"}, "there is no file somewhere.txt"),
    ({"selections": ("neighbours",)}, "--neighbours 10 needs more than the 6 training examples"),
    ({"selections": ("left_out",)}, "left_out needs a base model"),
    ({"selections": ("self_influence",), "self_influence": ("datamodels",)}, "--purpose fitting"),
    ({"num_seeds": 2}, "significant needs scores of at least 3 seeds"),
    ({"num_folds": 1}, "--num_folds 1 is too small"),
    ({"level": 0.0}, "--level is a q-value"),
    ({"selection_share": 1.0}, "--selection_share"),
    ({"methods": ("trak",)}, "there are no scores in"),
    ({"experiment": "cnn_digits3_9pc"}, "there is no experiment cnn_digits3_9pc"),
]


def test_unusable_settings_are_refused_before_anything_is_trained(scored: Ensemble, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tda.training.retrained_logits.train_many", None)
    for changed, words in UNUSABLE:
        with pytest.raises(UserError, match=words):
            debias(**changed)
        assert not (EXPERIMENT.results.path / "data_debiasing.csv").exists(), changed


def test_left_out_predictions_of_a_base_choose_the_label_that_they_doubt_most(root: Path):
    few = {"model": "efficientnet_lite0", "task": "digits3", "num_per_class": 4}
    torch.save(torch.tensor(SEEDS[:2]), root / "random_seeds.pt")
    write_subset(task_named("digits3"), "train", 4, draw_seed=0, force=False)
    run_here("run_image_finetuning.py", **few, base="random", image_size=32)
    run_here("run_data_debiasing.py", **QUICK | few | {"selections": ("left_out",)})
    study = open_study(Experiment("efficientnet_lite0", "digits3", 4), "cpu")
    members = built(load_members(study, 0, study.plan.kept_epochs[-1:]))
    ((_, wrong),) = Suspects(study, members, num_folds=2).by_start
    found = pd.read_csv(study.results.path / "removal_candidates.csv").set_index("index")["left_out_wrong"]
    np.testing.assert_allclose(found.loc[study.train.indices].to_numpy(), wrong.numpy(), rtol=1e-5, atol=1e-7)
    rows = pd.read_csv(study.results.path / "data_debiasing.csv").set_index("selection")
    assert rows.loc["left_out", "removed"] == 4


def test_rows_of_earlier_scores_go_and_two_files_of_one_name_are_refused(scored: Ensemble, tmp_path: Path):
    debias()
    before = table()
    assert "grad_dot" in set(before["method"])
    for path in scored.study.results.score_folder("grad_dot").glob("*/*.parquet"):
        values, train, test, info = load_score_file(path)
        save_scores(path, -values, train, test, info)
    debias(methods=("grad_cos", "grad_cos"))
    found = table()
    assert "grad_dot" not in set(found["method"])
    assert (found["method"] == "grad_cos").sum() == (before["method"] == "grad_cos").sum()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.csv").write_text("index,score\n")
    with pytest.raises(UserError, match="--own_scores names two files mine"):
        debias(own_scores=(str(tmp_path / "a" / "mine.csv"), str(tmp_path / "b" / "mine.csv")))
