"""Scoring an experiment: what is finished is kept, and what does not belong is refused."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import EXPERIMENT, SEEDS, Ensemble, contents, run_here, temporary_files

from tda.data.index_files import write_subset
from tda.data.splits import load_split
from tda.data.tasks import task_named
from tda.experiments.manifest import read_manifest
from tda.methods.catalogue import catalogue
from tda.methods.registry import load_method
from tda.scores.score_files import load_score_file, load_scores
from tda.system.errors import UserError
from tda.training.members import load_members

RESULTS = EXPERIMENT.results
SPOILT = """
import torch

from tda.methods.registry import Attribution, register


@register("spoilt", "Spoilt", "nobody")
def spoilt(members, train, test, settings):
    for member in members:
        scores = torch.zeros(len(train), len(test))
        if member.epoch == 13:
            scores[4, 7] = float("{value}")
        yield Attribution(scores)
"""


def score(methods: dict[str, dict] | None = None, **settings) -> str:
    chosen = {"num_per_class": 2, "seed_id": 0, "methods": methods or {"grad_dot": {}}} | settings
    return run_here("run_tda.py", **chosen)


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}


def test_files_hold_what_the_method_returns(ensemble: Ensemble):
    line = score({"grad_dot": {}, "grad_cos": {}}, seed_id=None)
    assert "wrote 30 score files, kept 0" in line and f"in {RESULTS.path / 'tda_scores'} of grad_dot, grad_cos" in line
    train, test = load_split(task_named("digits3"), "train", 2), load_split(task_named("digits3"), "test")
    for name in ("grad_dot", "grad_cos"):
        scores = load_scores(RESULTS, name)
        assert scores.values.shape == (3, 5, 6, 150)
        assert scores.train_indices.tolist() == train.indices.tolist()
        assert scores.test_indices.tolist() == test.indices.tolist()
        for seed_id in range(3):
            members = load_members(ensemble.study, seed_id, [11, 15])
            for member, found in zip(members, load_method(name).score(members, train, test, {}), strict=True):
                stored = scores.values[seed_id, member.epoch - 11]
                np.testing.assert_allclose(stored, found.scores.numpy(), rtol=1e-3, atol=1e-4 * np.abs(stored).max())
        metadata = scores.metadata
        assert metadata["method"] == name and metadata["citation"] == load_method(name).citation
        assert metadata["data"] == {"train": train.fingerprint, "test": test.fingerprint}
    steps = read_manifest(RESULTS)["steps"]
    for name in ("grad_dot", "grad_cos"):
        assert steps[f"scoring {name}"]["arguments"]["methods"] == {name: {}}
        assert 0 <= steps[f"scoring {name}"]["wall_seconds"] and steps[f"scoring {name}"]["seeds"] == list(SEEDS)


def test_residual_and_settings_are_in_the_metadata(ensemble: Ensemble):
    score({"if": {"damping": 0.1}})
    *_, metadata = load_score_file(RESULTS.score_file("if", 0, 15))
    assert metadata["settings"] == load_method("if").settings | {"damping": 0.1}
    assert 0 <= metadata["report"]["largest_relative_residual"] < 1e-3


def test_finished_files_are_kept_and_missing_ones_are_made(ensemble: Ensemble):
    assert "wrote 5 score files, kept 0" in score()
    before, bytes_before = times(RESULTS.path), contents(RESULTS.path, "**/*.parquet")
    record = read_manifest(RESULTS)["steps"]["scoring grad_dot, seed 0"]
    assert "wrote 0 score files, kept 5" in score()
    assert times(RESULTS.path) == before and read_manifest(RESULTS)["steps"]["scoring grad_dot, seed 0"] == record
    RESULTS.score_file("grad_dot", 0, 13).unlink()
    assert "wrote 1 score files, kept 4" in score()
    assert contents(RESULTS.path, "**/*.parquet") == bytes_before
    rewritten = [path for path, time in times(RESULTS.path).items() if before[path] != time]
    assert rewritten == [RESULTS.score_file("grad_dot", 0, 13)]


@pytest.mark.parametrize("missing", ["grad_dot", "grad_cos"])
def test_one_of_two_methods_is_finished(ensemble: Ensemble, missing: str):
    """What a kill between two methods of one script leaves."""
    both = {"grad_dot": {}, "grad_cos": {}}
    score(both)
    before = contents(RESULTS.path, "**/*.parquet")
    shutil.rmtree(RESULTS.score_folder(missing))
    assert "wrote 5 score files, kept 5" in score(both)
    assert contents(RESULTS.path, "**/*.parquet") == before


def test_force_computes_everything_again(ensemble: Ensemble):
    score()
    before, bytes_before = times(RESULTS.path), contents(RESULTS.path, "**/*.parquet")
    assert "wrote 5 score files, kept 0" in score(force=True)
    assert all(time != before[path] for path, time in times(RESULTS.path).items())
    assert contents(RESULTS.path, "**/*.parquet") == bytes_before


def test_scores_whose_checkpoints_are_gone_are_left_alone(ensemble: Ensemble):
    score()
    before = contents(RESULTS.path, "**/*.parquet")
    shutil.rmtree(ensemble.root / "models")
    with pytest.raises(UserError, match="ckpt_epoch_11.safetensors is missing; train the ensemble first"):
        score()
    assert contents(RESULTS.path, "**/*.parquet") == before


def test_files_of_other_settings_are_refused(ensemble: Ensemble):
    score({"ats": {"optimizer_state": "fresh"}})
    before = contents(RESULTS.path, "**/*.parquet")
    words = "11.parquet does not belong here: of its settings, optimizer_state is fresh, not checkpoint; .*--force"
    with pytest.raises(UserError, match=words):
        score({"ats": {}})
    assert contents(RESULTS.path, "**/*.parquet") == before
    assert "wrote 5" in score({"ats": {}}, force=True)
    assert contents(RESULTS.path, "**/*.parquet") != before


def test_files_of_other_data_are_refused(ensemble: Ensemble):
    score()
    write_subset(task_named("digits3"), "test", 50, draw_seed=4, force=True)
    with pytest.raises(UserError, match="does not belong here: of its data, test is"):
        score()


@pytest.mark.parametrize("size", [0, 500])
def test_damaged_score_file_is_refused(ensemble: Ensemble, size: int):
    score()
    os.truncate(RESULTS.score_file("grad_dot", 0, 12), size)
    with pytest.raises(UserError, match="attribution_epoch_12.parquet is not a whole score file.*; delete it"):
        score()
    RESULTS.score_file("grad_dot", 0, 12).unlink()
    assert "wrote 1 score files" in score()


def test_scores_of_another_checkpoint_are_computed_anew(ensemble: Ensemble):
    score()
    before = contents(RESULTS.path, "**/*.parquet")
    shutil.copy(RESULTS.score_file("grad_dot", 0, 11), RESULTS.score_file("grad_dot", 0, 12))
    assert "wrote 1 score files, kept 4" in score()
    assert contents(RESULTS.path, "**/*.parquet") == before


def test_foreign_checkpoint_is_refused_and_finished_files_stay(ensemble: Ensemble):
    score()
    before = contents(RESULTS.path, "**/*.parquet")
    shutil.copy(EXPERIMENT.checkpoint_file(2, 14), EXPERIMENT.checkpoint_file(1, 14))
    with pytest.raises(UserError, match="ckpt_epoch_14.safetensors is foreign: its seed_id is 2, not 1"):
        score(seed_id=None)
    assert contents(RESULTS.path, "**/*.parquet") == before


def test_missing_ensemble_names_the_training_script(root: Path):
    with pytest.raises(UserError, match="ckpt_epoch_11.safetensors is missing; train the ensemble first with run_cnn"):
        score()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_score_that_is_not_finite_is_named_and_not_written(ensemble: Ensemble, value: float):
    (ensemble.root / "methods").mkdir()
    (ensemble.root / "methods" / "spoilt.py").write_text(SPOILT.format(value=value))
    with pytest.raises(UserError) as caught:
        score({"spoilt": {}})
    train, test = load_split(task_named("digits3"), "train", 2), load_split(task_named("digits3"), "test")
    pair = f"training example {train.indices[4]} and test example {test.indices[7]}"
    assert f"method spoilt, seed 0, epoch 13 for {pair} is not a finite number" in str(caught.value)
    assert not RESULTS.score_file("spoilt", 0, 13).exists() and temporary_files(ensemble.root) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"task": "digits4"}, "unknown task digits4"),
        ({"model": "resnet"}, "unknown model resnet"),
        ({"seed_id": 3}, "seed_id 3 is out of range"),
        ({"seed_id": -1}, "seed_id -1 is out of range"),
        ({"num_per_class": 8}, "train_8pc.txt is missing"),
        ({"device": "abacus"}, "device abacus cannot be used on this machine"),
    ],
)
def test_unusable_settings_are_refused(root: Path, settings: dict, words: str):
    with pytest.raises(UserError, match=words):
        score(**settings)


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        ("if", {"damping": -1.0}, "damping of the influence function must be positive, not -1.0"),
        ("if", {"matrix": "identity"}, "unknown curvature matrix identity; known ones are gauss_newton, hessian"),
        ("if", {"tolerance": 0.0}, "needs a positive tolerance and at least one iteration, not 0.0 and 200"),
        ("ekfac", {"matrix": "hessian"}, "unknown curvature matrix hessian; known ones are empirical_fisher, fisher"),
        ("ekfac", {"damping": 0.0}, "damping of EK-FAC must be positive, not 0.0"),
        ("if_lissa", {"scale": 0.0}, "LiSSA needs a positive scale and batch size, not 0.0 and 8"),
        ("if_arnoldi", {"num_eigenvalues": 21}, "1 to 20 eigenvalues can be kept, not 21"),
        ("trak", {"ridge": -1.0}, "ridge is -1.0; it must be at least 0"),
        ("trak_projected", {"projection": "dense"}, "unknown kind of projection 'dense'"),
        ("trak_projected", {"dimension": 0}, "a projection to the dimension 0 holds nothing"),
        ("trak_kernels", {"ridge_factor": 0.0}, "the ridge factor must be positive, not 0.0"),
        ("datamodels", {"penalty": "none"}, "unknown penalty none for datamodels; known ones are ridge and lasso"),
    ],
)
def test_settings_that_mean_nothing_are_refused_before_the_methods_before_them_run(
    ensemble: Ensemble, method: str, settings: dict, words: str
):
    with pytest.raises(UserError, match=words):
        score({"grad_dot": {}, method: settings})
    assert not RESULTS.score_file("grad_dot", 0, 15).exists()


def test_unknown_method_lists_the_known_ones(root: Path):
    with pytest.raises(UserError, match=f"unknown method magic; known methods are {', '.join(sorted(catalogue()))}"):
        score({"magic": {}})


def test_metadata_is_json_that_anyone_can_read(ensemble: Ensemble):
    for method, sign in (("grad_dot", "positive = helpful"), ("repsim", "positive = alike")):
        score({method: {}})
        content = json.loads(pq.read_schema(RESULTS.score_file(method, 0, 15)).metadata[b"tda"])
        assert content["sign"].startswith(sign) and content["experiment"] == EXPERIMENT.name


def test_real_mnist_from_data_to_scores(real_root: Path):
    """One seed, two examples a class."""
    write_subset(task_named("mnist3"), "train", 2, draw_seed=0, force=False)
    line = run_here("run_cnn_training.py", task="mnist3", num_per_class=2, seed_id=1)
    assert "trained 1 seeds, kept 0" in line
    assert "wrote 5 score files" in score(task="mnist3", seed_id=1)
    folder = type(EXPERIMENT)("cnn", "mnist3", 2).results
    values, train, test, metadata = load_score_file(folder.score_file("grad_dot", 1, 15))
    assert values.shape == (6, 900) and len(set(test)) == 900
    labels = load_split(task_named("mnist3"), "train", 2).labels, load_split(task_named("mnist3"), "test").labels
    same = (labels[0][:, None] == labels[1]).numpy()
    assert values[same].mean() > 0 > values[~same].mean()


def test_a_refused_run_deletes_no_scores_and_a_finished_one_those_of_other_epochs(ensemble: Ensemble):
    score()
    other = RESULTS.score_file("grad_dot", 0, 3)
    shutil.copy(RESULTS.score_file("grad_dot", 0, 11), other)
    checkpoint = EXPERIMENT.checkpoint_file(0, 15)
    kept = checkpoint.read_bytes()
    checkpoint.unlink()
    with pytest.raises(UserError, match="ckpt_epoch_15.safetensors is missing"):
        score(force=True)
    assert other.exists()
    checkpoint.write_bytes(kept)
    assert "wrote 0 score files, kept 5" in score()
    assert not other.exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("torch.zeros(len(test), len(train))", r"gave a tensor \(150, 6\) for scores; it must give a tensor \(6, 150\)"),
        ("torch.zeros(len(train), len(test)).numpy()", "gave ndarray for scores"),
        ("torch.zeros(len(train), len(test)), report={'norm': torch.ones(1)}", "the report of method odd cannot be written"),
    ],
)
def test_what_is_no_table_of_scores_is_refused(ensemble: Ensemble, given: str, words: str):
    write_method(ensemble.root, given)
    with pytest.raises(UserError, match=words):
        score({"odd": {}})


def test_scores_without_an_attribution_are_refused(ensemble: Ensemble):
    write_method(ensemble.root, "torch.zeros(len(train), len(test))")
    path = ensemble.root / "methods" / "odd.py"
    path.write_text(path.read_text().replace("yield Attribution(", "yield ("))
    with pytest.raises(UserError, match=r"method odd gave a Tensor instead of an Attribution; wrap its scores"):
        score({"odd": {}})


@pytest.mark.parametrize("given", [".bfloat16()", ".requires_grad_()"])
def test_scores_of_16_bits_or_with_a_graph_are_numbers_too(ensemble: Ensemble, given: str):
    write_method(ensemble.root, f"torch.ones(len(train), len(test)){given}")
    assert "wrote 5" in score({"odd": {}})
    assert (load_scores(RESULTS, "odd").values == 1).all()


def write_method(root: Path, given: str) -> None:
    """A method of a user's own that yields an Attribution of what is given, for every member."""
    lines = SPOILT[: SPOILT.index("        scores =")].replace("spoilt", "odd")
    (root / "methods").mkdir()
    (root / "methods" / "odd.py").write_text(f"{lines}        yield Attribution({given})\n")
