"""Retrainings of the members' own runs, and the LDS rows of left-out subsets in both estimands."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import EXPERIMENT, SEEDS, Ensemble, assert_refused, run_here, run_script
from scipy.stats import spearmanr

from tda.experiments.manifest import read_manifest
from tda.methods.leave_one_out import loss_changes
from tda.scores.score_files import load_scores
from tda.system.errors import UserError
from tda.training.evaluation import evaluate
from tda.training.retrainings import Retraining, RetrainingStore, without
from tda.training.subset_draws import SubsetDraw, load_subset_outputs

TINY = {"model": "cnn", "task": "digits3", "num_per_class": 2, "num_subsets": 5}
FOLDER = EXPERIMENT.results


def retrain(**changed: object) -> str:
    return run_here("run_subset_retraining.py", **TINY | {"num_retrainings": 3} | changed)


def judge(**changed: object) -> str:
    chosen = {"experiment": EXPERIMENT.name, "num_subsets": 5, "num_retrainings": 3, "num_checkpoints": 1}
    return run_here("run_lds_evaluation.py", **chosen | changed)


def test_the_same_run_without_one_example_is_leave_one_out(ensemble: Ensemble):
    study, member = ensemble.study, ensemble.members(ensemble.study.plan.epochs, seed_id=1)[0]
    store = RetrainingStore(study)
    whole, fewer = (Retraining(counted, SEEDS[1], same_run=True) for counted in (torch.arange(6), without(6, [4])))
    store.fill([whole, fewer], "test")
    before, after = store.load([whole], "").losses[0], store.load([fewer], "").losses[0]
    # Nothing left out is the ensemble's own checkpoint.
    test = study.inputs(study.test)
    torch.testing.assert_close(before, evaluate(member.model, study.task.objective, test).losses, rtol=0, atol=0)
    expected = loss_changes(member, ensemble.train, test, [4])[-1, 0]
    torch.testing.assert_close(after - before, expected, rtol=0, atol=0)
    other = Retraining(without(6, [4]), SEEDS[1])
    assert store.paths([other]) != store.paths([fewer])
    store.fill([other], "test")
    assert not torch.equal(store.load([other], "").losses[0], after)


def test_command_retrains_the_members_runs_and_the_whole_ones(ensemble: Ensemble):
    assert "retrained 18 models, kept 0" in retrain(left_out=0.2, same_run=True)
    assert "retrained 0 models, kept 18" in retrain(alpha=0.8, same_run=True)
    assert "retrained 15 models, kept 0" in retrain(left_out=0.2)
    found = load_subset_outputs(RetrainingStore(ensemble.study), SubsetDraw("evaluation", 0.8, 5, 3, SEEDS))
    assert found.losses.shape == (3, 5, 150) and found.whole_losses.shape == (3, 150)
    assert (found.masks.sum(dim=1) == 5).all()
    steps = read_manifest(FOLDER)["steps"]
    assert "evaluation subset retraining, 0.2 left out of the same run" in steps


def test_at_least_one_example_is_left_out():
    assert (SubsetDraw("evaluation", 0.99, 4, 1).masks(30).sum(dim=1) == 29).all()
    assert (SubsetDraw("evaluation", 0.95, 4, 1).masks(150).sum(dim=1) == 142).all()


@pytest.fixture
def scored(ensemble: Ensemble) -> Ensemble:
    run_here("run_tda.py", num_per_class=2, methods={"grad_dot": {}, "loo": {}})
    return ensemble


def test_rows_of_both_estimands_stand_beside_each_other(scored: Ensemble):
    for left_out in (0.01, 0.5):
        for same_run in (True, False):
            retrain(left_out=left_out, same_run=same_run)
            judge(left_out=left_out, same_run=same_run)
    table = pd.read_csv(FOLDER.path / "lds_left_out.csv")
    assert len(table) == 2 * 2 * 4 and set(table["method"]) == {"grad_dot", "loo", "random", "retraining"}
    assert set(table["left_out"]) == {1, 3} and set(table["members"]) == {3} and set(table["subsets"]) == {5}
    rows = table.set_index(["estimand", "left_out", "method"])
    scores = load_scores(FOLDER, "grad_dot").values[:, -1].astype(float)
    for left_out, alpha in ((1, 0.99), (3, 0.5)):
        same = load_subset_outputs(RetrainingStore(scored.study), SubsetDraw("evaluation", alpha, 5, 3, SEEDS))
        other = load_subset_outputs(RetrainingStore(scored.study), SubsetDraw("evaluation", alpha, 5, 3))
        assert torch.equal(same.masks, other.masks)
        predicted = np.einsum("sn,rnt->rst", ~same.masks.numpy(), scores)
        for estimand, found, pairs in (
            ("same run", same, [(r, r) for r in range(3)]),
            ("other seeds", other, [(r, q) for r in range(3) for q in range(3)]),
        ):
            losses = found.losses.numpy()
            each = [spearman(predicted[r, :, t], losses[q, :, t]) for r, q in pairs for t in range(150)]
            assert rows.loc[(estimand, left_out, "grad_dot"), "lds_run"] == pytest.approx(np.mean(each), abs=1e-5)
    # A single example's removal is what leave-one-out scores are.
    assert rows.loc[("same run", 1, "loo"), "lds_run"] == pytest.approx(1, abs=0.02)
    assert rows.loc[("same run", 1, "loo"), "scale"] == pytest.approx(1, rel=1e-3)
    assert (FOLDER.path / "lds_left_out.png").exists() and not (FOLDER.path / "lds.csv").exists()
    files = [entry["files"] for name, entry in read_manifest(FOLDER)["steps"].items() if name.startswith("LDS of left-out")]
    assert len(files) == 4 and "lds_left_out.csv" in files[0]


def spearman(left: np.ndarray, right: np.ndarray) -> float:
    return 0.0 if np.ptp(left) == 0 or np.ptp(right) == 0 else spearmanr(left, right).statistic


def test_judging_again_replaces_rows(scored: Ensemble):
    retrain(left_out=0.01, same_run=True)
    judge(left_out=0.01, same_run=True)
    before = (FOLDER.path / "lds_left_out.csv").read_bytes()
    assert "same run, 1 of 6 left out" in judge(left_out=0.01, same_run=True)
    assert (FOLDER.path / "lds_left_out.csv").read_bytes() == before
    judge(left_out=0.01, same_run=True, num_checkpoints=2)
    assert len(pd.read_csv(FOLDER.path / "lds_left_out.csv")) == 8


def test_removal_of_the_most_helpful_in_the_members_own_runs(scored: Ensemble):
    chosen = {"experiment": EXPERIMENT.name, "shares": (0.17,), "num_test": 4, "num_retrainings": 2, "num_checkpoints": 1}
    run_here("run_removal_evaluation.py", same_run=True, **chosen)
    table = pd.read_csv(FOLDER.path / "removal_same_run.csv").set_index("method")
    # The most helpful example by LOO is the one whose removal raises this run's loss most, and by as much as it says.
    scores = load_scores(FOLDER, "loo").values[:2, -1, :, :4].astype(float)
    assert table.loc["loo", "loss_rise"] == pytest.approx(scores.max(axis=1).mean(), rel=1e-4)
    assert table.loc["loo", "loss_rise"] >= table["loss_rise"].max()
    assert table.loc["loo", "loss_rise_low"] < table.loc["loo", "loss_rise"] < table.loc["loo", "loss_rise_high"]
    assert not (FOLDER.path / "removal.csv").exists() and (FOLDER.path / "removal_same_run.png").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"left_out": 1.2}, "--left_out is the share .* between 0 and 1, not 1.2"),
        ({"same_run": True, "num_retrainings": 4}, "--num_retrainings 4 is too large .* 3 seeds"),
    ],
)
def test_unusable_settings_are_refused(ensemble: Ensemble, changed: dict, words: str):
    with pytest.raises(UserError, match=words):
        retrain(**changed)
    with pytest.raises(UserError, match=words):
        judge(**changed)


def test_scripts_say_what_is_missing_or_contradicts_itself(ensemble: Ensemble):
    run_here("tda_cnn_scripts/run_cnn_gd_and_gc.py", num_per_class=2)
    arguments = ["--experiment", EXPERIMENT.name, "--num_subsets", 5, "--num_retrainings", 2]
    refused = run_script("run_lds_evaluation.py", *arguments, "--left_out", 0.5, "--same_run", root=ensemble.root)
    assert_refused(refused, "10 of 10 retrainings", "run_subset_retraining.py", "--alpha 0.5", "--same_run")
    refused = run_script("run_lds_evaluation.py", *arguments, "--left_out", 0.5, "--alpha", 0.5, root=ensemble.root)
    assert_refused(refused, "either --alpha or --left_out")
