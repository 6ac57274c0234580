"""Checkpoints on disk: what they keep, and which files are refused."""

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import EXPERIMENT, Ensemble

from tda.models.model_state import ModelState
from tda.system.errors import UserError
from tda.training.checkpoints import FORMAT, read_checkpoint, save_checkpoint

AGAIN = "the command"


@pytest.fixture
def path(ensemble: Ensemble) -> Path:
    return EXPERIMENT.checkpoint_file(0, 15)


def refused(path: Path, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        read_checkpoint(path, AGAIN)
    assert "ckpt_epoch_15.safetensors" in str(caught.value) and str(caught.value).endswith(AGAIN)


def test_checkpoint_is_written_again_to_the_same_bytes(ensemble: Ensemble, path: Path):
    before = path.read_bytes()
    state, info = read_checkpoint(path, AGAIN)
    path.unlink()
    described = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "versions")
    save_checkpoint(ensemble.study, 0, 15, state, {key: info[key] for key in described})
    assert path.read_bytes() == before


def test_state_is_parameters_and_what_the_optimizer_remembers(ensemble: Ensemble, path: Path):
    state, info = read_checkpoint(path, AGAIN)
    names = {name for name, _ in ensemble.study.new_model().named_parameters()}
    assert set(state.parameters) == names and state.buffers == {}
    assert set(state.optimizer) == {"exp_avg", "exp_avg_sq", "step"}
    assert all(set(by_name) == names for by_name in state.optimizer.values())
    assert all(int(step) == 15 for step in state.optimizer["step"].values())
    assert (info["format"], info["experiment"], info["seed_id"], info["epoch"]) == (FORMAT, "cnn_digits3_2pc", 0, 15)
    assert len(info["sha256"]) == 64


def test_buffers_are_kept_under_their_names(ensemble: Ensemble, path: Path):
    state, _ = read_checkpoint(path, AGAIN)
    buffers = {"1.running_mean": torch.arange(3.0), "1.num_batches_tracked": torch.tensor(4)}
    save_checkpoint(ensemble.study, 0, 15, ModelState(state.parameters, buffers, {}), {})
    again, _ = read_checkpoint(path, AGAIN)
    assert again.buffers.keys() == buffers.keys() and again.optimizer == {}
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in again.buffers.items())


def test_missing_checkpoint_names_the_training_command(path: Path):
    path.unlink()
    refused(path, "is missing; train the ensemble first with the command")


@pytest.mark.parametrize("size", [0, 7, 100, 2_000_000])
def test_truncated_checkpoint_is_refused(path: Path, size: int):
    os.truncate(path, size)
    refused(path, "is not a whole tensor file of this project; delete it and run the command")


def test_flipped_bit_is_noticed(path: Path):
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    refused(path, "is damaged: its tensors do not match its checksum; delete it")


def test_text_file_is_refused(path: Path):
    path.write_text("not a checkpoint\n" * 100)
    refused(path, "is not a whole tensor file")


def test_safetensors_file_of_another_project_is_refused(path: Path):
    for metadata in (None, {"format": "pt"}, {"tda": "[]"}, {"tda": "no json"}):
        path.write_bytes(safetensors.torch.save({"weight": torch.zeros(3)}, metadata))
        refused(path, "is not a whole tensor file")


def test_nothing_is_unpickled(path: Path):
    """A pickle in place of a checkpoint is refused, not executed."""
    torch.save({"weight": torch.zeros(3)}, path)
    refused(path, "is not a whole tensor file")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_diverged_training_writes_nothing(ensemble: Ensemble, path: Path, value: float):
    before = path.read_bytes()
    state, _ = read_checkpoint(path, AGAIN)
    next(iter(state.parameters.values())).view(-1)[3] = value
    with pytest.raises(UserError, match="training diverged: .* of seed 0 holds NaN or infinity after epoch 15"):
        save_checkpoint(ensemble.study, 0, 15, state, {})
    assert path.read_bytes() == before
