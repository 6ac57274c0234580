"""Kept s_test vectors give the scores of their method, for training examples old and new."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import EXPERIMENT, Ensemble, contents, script_module, temporary_files
from tiny_model import naive_gradients, score

from tda.curvature.inverses import dual_inverse
from tda.curvature.s_test_files import read_info, score_new_examples, write_s_test
from tda.data.index_files import write_subset
from tda.data.splits import load_split
from tda.data.tasks import TASKS, task_named
from tda.methods import method_named
from tda.methods.lissa import lissa_operators
from tda.scores.score_files import load_score_file
from tda.system.errors import UserError

RESULTS = EXPERIMENT.results
INFO = {"experiment": EXPERIMENT.name, "seed_id": 0, "epoch": 15}


@pytest.mark.parametrize("method", ["if", "if_lissa"])
def test_scores_of_the_training_examples_are_those_of_the_method(ensemble: Ensemble, tmp_path: Path, method: str):
    (member,) = ensemble.members(15)
    if method == "if":
        inverse = dual_inverse(member, ensemble.train, method_named("if").settings["damping"])
    else:
        inverse = lissa_operators(member, ensemble.train, 5e-3, 1e4, 8)[0]
    path = tmp_path / "s_test.safetensors"
    residual = write_s_test(path, member, ensemble.test, inverse, INFO)
    assert 0 <= residual < 1e-2
    found = score_new_examples(path, member, ensemble.train)
    (expected,) = score(method, [member], ensemble.train, ensemble.test)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-3 * float(expected.abs().max()))


def test_file_is_ordinary_safetensors(ensemble: Ensemble, tmp_path: Path):
    (member,) = ensemble.members(15)
    path = tmp_path / "s_test.safetensors"
    write_s_test(path, member, ensemble.test, lambda vectors: (3 * vectors, 0.0), INFO)
    (name,) = tensors = safetensors.torch.load_file(path)
    assert name == "s_test" and read_info(path) == INFO
    torch.testing.assert_close(tensors[name], 3 * naive_gradients(member.model, ensemble.test), rtol=1e-3, atol=1e-4)


def test_value_that_is_not_finite_is_refused_and_nothing_is_written(ensemble: Ensemble, tmp_path: Path):
    path = tmp_path / "folder" / "s_test.safetensors"
    with pytest.raises(UserError, match="s_test of seed 0, epoch 15 is not finite.*nothing was written"):
        write_s_test(path, ensemble.members(15)[0], ensemble.test, lambda vectors: (vectors / 0, 0.0), INFO)
    assert not list(path.parent.iterdir())


def test_file_of_another_member_is_refused(ensemble: Ensemble, tmp_path: Path):
    (member,) = ensemble.members(15)
    path = tmp_path / "s_test.safetensors"
    write_s_test(path, member, ensemble.test, lambda vectors: (vectors, 0.0), INFO | {"epoch": 14})
    with pytest.raises(UserError, match="holds s_test of another member"):
        score_new_examples(path, member, ensemble.train)


def test_changed_numbers_are_noticed(ensemble: Ensemble, tmp_path: Path):
    (member,) = ensemble.members(15)
    path = tmp_path / "s_test.safetensors"
    write_s_test(path, member, ensemble.test, lambda vectors: (vectors, 0.0), INFO)
    with open(path, "r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"x")
    with pytest.raises(UserError, match="s_test.safetensors is damaged: its values do not match its checksum"):
        score_new_examples(path, member, ensemble.train)


@pytest.fixture
def few_tests(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> Ensemble:
    """The ensemble with a test subset of two examples a class, whose s_test files are small."""
    monkeypatch.setitem(TASKS, "digits3", replace(task_named("digits3"), test_per_class=2))
    write_subset(task_named("digits3"), "test", 2, draw_seed=0, force=False)
    return ensemble


def keep(**settings) -> str:
    module = script_module("tda_cnn_scripts/run_cnn_s_test.py")
    return module.keep_s_test(module.Settings(**{"num_per_class": 2, "seed_id": 0, "device": "cpu"} | settings))


def test_new_examples_are_scored_and_finished_files_are_kept(few_tests: Ensemble, tmp_path: Path):
    indices = tmp_path / "new.txt"
    old = load_split(task_named("digits3"), "train", 2).indices.tolist()
    new = [index for index in load_split(task_named("digits3"), "train", 3).indices.tolist() if index not in old]
    indices.write_text("\n".join(map(str, [new[0], *old, new[1]])))
    assert "wrote 2 s_test files, kept 0" in keep(num_checkpoints=2, new_indices=str(indices))
    before = contents(few_tests.root / "results", "**/*.safetensors")
    values, train_indices, test_indices, metadata = load_score_file(RESULTS.new_example_file("if", 0, 15))
    assert train_indices.tolist() == [new[0], *old, new[1]] and len(test_indices) == 6 and metadata["epoch"] == 15
    test = load_split(task_named("digits3"), "test")
    (expected,) = score("if", few_tests.members(15), few_tests.train, test)
    torch.testing.assert_close(torch.tensor(values[1:-1]), expected, rtol=2e-2, atol=2e-3 * float(expected.abs().max()))
    assert "wrote 0 s_test files, kept 2" in keep(num_checkpoints=2)
    assert contents(few_tests.root / "results", "**/*.safetensors") == before and temporary_files(few_tests.root) == []


def test_files_that_do_not_belong_are_refused(few_tests: Ensemble):
    keep()
    path = RESULTS.s_test_file("if", 0, 15)
    with pytest.raises(UserError, match="s_test_epoch_15.safetensors was computed from other data or settings"):
        keep(damping=0.1)
    other = RESULTS.s_test_file("if", 0, 14)
    shutil.copy(path, other)
    with pytest.raises(UserError, match="s_test_epoch_14.safetensors was computed from other data or settings"):
        keep(num_checkpoints=2)
    other.unlink()
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(UserError, match="s_test_epoch_15.safetensors is not a whole s_test file"):
        keep()
    assert "wrote 1 s_test files" in keep(force=True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_checkpoints": 6}, "--num_checkpoints 6 is out of range: 5 checkpoints"),
        ({"num_checkpoints": 0}, "--num_checkpoints 0 is out of range"),
        ({"method": "loo"}, "kept for the methods if and if_lissa, not for loo"),
        ({"damping": 0.0}, "damping.*must be positive, not 0"),
        ({"damping": -1.0}, "damping.*must be positive, not -1"),
        ({"new_indices": "nowhere.txt"}, "nowhere.txt is missing"),
    ],
)
def test_unusable_settings_are_refused(few_tests: Ensemble, settings: dict, words: str):
    with pytest.raises(UserError, match=words):
        keep(**settings)
    assert not contents(few_tests.root / "results", "**/*.safetensors")


@pytest.mark.parametrize("text", ["5\n5\n", "100000\n", "-1\n", "three\n", "7"])
def test_wrong_new_indices_are_refused_by_name(few_tests: Ensemble, tmp_path: Path, text: str):
    path = tmp_path / "new.txt"
    path.write_text(text)
    if text == "7":
        path.write_text(f"{int((task_named('digits3').load('train').labels == int(text)).nonzero()[0][0])}\n")
    with pytest.raises(UserError, match="new.txt"):
        keep(new_indices=str(path))
