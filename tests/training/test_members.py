"""Checkpoints: what they keep, and which ones are refused."""

import os
import shutil

import pytest
import safetensors.torch
import torch
from conftest import CPU, EXPERIMENT, SEEDS, Ensemble

from tda.data.index_files import write_subset
from tda.data.splits import load_split
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment
from tda.models.model_state import ModelState, read_state
from tda.system.errors import UserError
from tda.training.members import Member, load_member, save_checkpoint


def load(ensemble: Ensemble, seed_id: int = 0, epoch: int = 15, experiment: Experiment = EXPERIMENT) -> Member:
    return load_member(experiment, seed_id, epoch, ensemble.train.fingerprint, CPU)


def refused(ensemble: Ensemble, words: str, **which) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load(ensemble, **which)
    assert "run_cnn_training.py" in str(caught.value) and ".safetensors" in str(caught.value)


def test_member_is_read_back_bit_for_bit(ensemble: Ensemble):
    member = load(ensemble)
    path = EXPERIMENT.checkpoint_file(0, 15)
    before = path.read_bytes()
    assert set(member.state.optimizer) == {"exp_avg", "exp_avg_sq", "step"}
    assert all(int(step) == 15 for step in member.state.optimizer["step"].values())
    path.unlink()
    own = ("format", "experiment", "seed_id", "epoch", "sha256")
    save_checkpoint(EXPERIMENT, 0, 15, member.state, {key: value for key, value in member.info.items() if key not in own})
    assert path.read_bytes() == before
    again = load(ensemble)
    assert read_state(again.model).parameters.keys() == member.state.parameters.keys()
    for name, tensor in read_state(again.model).parameters.items():
        assert torch.equal(tensor, member.state.parameters[name])
    assert not again.model.training


def test_checkpoint_tells_of_its_training(ensemble: Ensemble):
    member = load(ensemble, seed_id=2, epoch=13)
    info = member.info
    assert member.seed == info["seed"] == SEEDS[2] and info["epoch"] == 13 and info["experiment"] == "cnn_digits3_2pc"
    assert info["data"] == ensemble.train.fingerprint and info["plan"] == member.plan.as_dict()
    assert info["versions"]["torch"] == torch.__version__.split("+")[0] or info["versions"]["torch"] == torch.__version__
    assert 0 < info["train_loss"] < 3 and 1 / 3 < info["test_accuracy"] <= 1


def test_missing_checkpoint_names_the_training_command(ensemble: Ensemble):
    EXPERIMENT.checkpoint_file(0, 15).unlink()
    refused(ensemble, "is missing; .*run_cnn_training.py --model cnn --task digits3 --num_per_class 2")


@pytest.mark.parametrize("size", [0, 7, 100, 2_000_000])
def test_truncated_checkpoint_is_refused(ensemble: Ensemble, size: int):
    os.truncate(EXPERIMENT.checkpoint_file(0, 15), size)
    refused(ensemble, "is not a whole checkpoint")


def test_flipped_bit_is_noticed(ensemble: Ensemble):
    path = EXPERIMENT.checkpoint_file(0, 15)
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    refused(ensemble, "is damaged: its tensors do not match its checksum")


def test_text_file_is_refused(ensemble: Ensemble):
    EXPERIMENT.checkpoint_file(0, 15).write_text("not a checkpoint\n" * 100)
    refused(ensemble, "is not a whole checkpoint")


def test_safetensors_file_of_another_project_is_refused(ensemble: Ensemble):
    path = EXPERIMENT.checkpoint_file(0, 15)
    for metadata in (None, {"format": "pt"}, {"tda": "[]"}, {"tda": "no json"}):
        path.write_bytes(safetensors.torch.save({"weight": torch.zeros(3)}, metadata))
        refused(ensemble, "is not a whole checkpoint")


def test_swapped_epochs_are_noticed(ensemble: Ensemble):
    shutil.copy(EXPERIMENT.checkpoint_file(0, 14), EXPERIMENT.checkpoint_file(0, 15))
    refused(ensemble, "is foreign: its epoch is 14, not 15")


def test_swapped_seeds_are_noticed(ensemble: Ensemble):
    shutil.copy(EXPERIMENT.checkpoint_file(1, 15), EXPERIMENT.checkpoint_file(0, 15))
    refused(ensemble, "is foreign: its seed_id is 1, not 0")


def test_other_seeds_in_the_seeds_file_are_noticed(ensemble: Ensemble):
    torch.save(torch.tensor([5, 6, 7]), ensemble.root / "random_seeds.pt")
    refused(ensemble, "is foreign: its seed is 11, not 5")


def test_checkpoint_of_another_experiment_is_noticed(ensemble: Ensemble):
    other = Experiment("cnn", "digits3", 3)
    other.seed_folder(0).mkdir(parents=True)
    shutil.copy(EXPERIMENT.checkpoint_file(0, 15), other.checkpoint_file(0, 15))
    refused(ensemble, "is foreign: its experiment is cnn_digits3_2pc, not cnn_digits3_3pc", experiment=other)


def test_other_training_examples_are_noticed(ensemble: Ensemble):
    with pytest.raises(UserError, match="was trained on other examples than the index file now names; .*--force"):
        load_member(EXPERIMENT, 0, 15, ensemble.test.fingerprint, CPU)


def resave(member: Member, state: ModelState | None = None, **changes) -> None:
    save_checkpoint(EXPERIMENT, 0, 15, state or member.state, member.info | changes)


def test_other_training_plan_is_noticed(ensemble: Ensemble):
    member = load(ensemble)
    resave(member, plan=member.info["plan"] | {"learning_rate": 0.1})
    refused(ensemble, "was trained with another training plan")


def test_other_network_is_noticed(ensemble: Ensemble):
    member = load(ensemble)
    parameters = dict(member.state.parameters)
    parameters[next(iter(parameters))] = torch.zeros(2, 2)
    resave(member, ModelState(parameters, member.state.buffers, member.state.optimizer))
    refused(ensemble, "holds another network than the two-layer CNN of digits3")
    del parameters[next(iter(parameters))]
    resave(member, ModelState(parameters, member.state.buffers, member.state.optimizer))
    refused(ensemble, "holds another network")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_diverged_training_writes_nothing(ensemble: Ensemble, value: float):
    member = load(ensemble)
    before = EXPERIMENT.checkpoint_file(0, 15).read_bytes()
    parameters = {name: tensor.clone() for name, tensor in member.state.parameters.items()}
    next(iter(parameters.values())).view(-1)[3] = value
    with pytest.raises(UserError, match="training diverged: .* of seed 0 holds NaN or infinity after epoch 15"):
        resave(member, ModelState(parameters, {}, {}))
    assert EXPERIMENT.checkpoint_file(0, 15).read_bytes() == before


def test_nothing_is_unpickled(ensemble: Ensemble):
    """A pickle in place of a checkpoint is refused, not executed."""
    torch.save({"weight": torch.zeros(3)}, EXPERIMENT.checkpoint_file(0, 15))
    refused(ensemble, "is not a whole checkpoint")


def test_intermediate_results_are_computed_once(ensemble: Ensemble):
    member, calls = load(ensemble), []
    for _ in range(2):
        assert member.remember("key", lambda: calls.append(1) or "value") == "value"
    assert calls == [1]
    assert load(ensemble).cache == {}


def test_new_indices_need_new_members(ensemble: Ensemble):
    write_subset(task_named("digits3"), "train", 2, draw_seed=9, force=True)
    with pytest.raises(UserError, match="was trained on other examples"):
        load_member(EXPERIMENT, 0, 15, load_split(task_named("digits3"), "train", 2).fingerprint, CPU)
