"""The s_test step: what is kept, what is finished, what is refused, and the scores of new examples."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import EXPERIMENT, Ensemble, contents, run_here, temporary_files
from tiny_model import score

from tda.data.index_files import write_subset
from tda.data.splits import load_split
from tda.data.tasks import TASKS, task_named
from tda.scores.score_files import load_score_file
from tda.system.errors import UserError
from tda.training.members import load_members
from tda.training.study import open_study

RESULTS = EXPERIMENT.results


@pytest.fixture
def few_tests(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> Ensemble:
    """The ensemble with a test subset of two examples a class, whose s_test files are small."""
    monkeypatch.setitem(TASKS, "digits3", replace(task_named("digits3"), test_per_class=2))
    write_subset(task_named("digits3"), "test", 2, draw_seed=0, force=False)
    return ensemble


def keep(**settings) -> str:
    return run_here("tda_cnn_scripts/run_cnn_s_test.py", **{"num_per_class": 2, "seed_id": 0} | settings)


def test_new_examples_are_scored_and_finished_files_are_kept(few_tests: Ensemble, tmp_path: Path):
    indices = tmp_path / "new.txt"
    old = load_split(task_named("digits3"), "train", 2).indices.tolist()
    new = [index for index in load_split(task_named("digits3"), "train", 3).indices.tolist() if index not in old]
    indices.write_text("\n".join(map(str, [new[0], *old, new[1]])))
    assert "wrote 2 s_test files, kept 0" in keep(num_checkpoints=2, new_indices=str(indices))
    before = contents(few_tests.root / "results", "**/*.safetensors")
    values, train_indices, test_indices, metadata = load_score_file(RESULTS.new_example_file("if", 0, 15))
    assert train_indices.tolist() == [new[0], *old, new[1]] and len(test_indices) == 6 and metadata["epoch"] == 15
    study = open_study(EXPERIMENT, "cpu")
    (expected,) = score("if", load_members(study, 0, [15]), study.inputs(study.train), study.inputs(study.test))
    torch.testing.assert_close(torch.tensor(values[1:-1]), expected, rtol=2e-2, atol=2e-3 * float(expected.abs().max()))
    assert "wrote 0 s_test files, kept 2" in keep(num_checkpoints=2)
    assert contents(few_tests.root / "results", "**/*.safetensors") == before and temporary_files(few_tests.root) == []


def test_files_that_do_not_belong_are_refused(few_tests: Ensemble):
    keep()
    path = RESULTS.s_test_file("if", 0, 15)
    with pytest.raises(UserError, match="s_test_epoch_15.safetensors was computed from other data or settings"):
        keep(damping=0.1)
    # One of another checkpoint is computed anew.
    shutil.copy(path, RESULTS.s_test_file("if", 0, 14))
    assert "wrote 1 s_test files, kept 1" in keep(num_checkpoints=2)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged: its tensors do not match its checksum; delete it"):
        keep()
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(UserError, match="s_test_epoch_15.safetensors is not a whole tensor file of this project; delete it"):
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
