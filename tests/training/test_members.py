"""Members: what a checkpoint becomes, and which ones do not belong to a study."""

import os
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import EXPERIMENT, SEEDS, Ensemble

from tda.data.index_files import write_subset
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment
from tda.models.model_state import read_state
from tda.system.errors import UserError
from tda.system.inputs import call
from tda.training.checkpoints import save_checkpoint
from tda.training.members import Member, load_member, load_members
from tda.training.study import Study, open_study


def load(ensemble: Ensemble, seed_id: int = 0, epoch: int = 15, study: Study | None = None) -> Member:
    return load_member(study or ensemble.study, seed_id, epoch)


def refused(ensemble: Ensemble, words: str, **which) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load(ensemble, **which)
    assert "run_cnn_training.py --model cnn --task digits3" in str(caught.value) and ".safetensors" in str(caught.value)


def resave(member: Member, study: Study | None = None, parameters: dict[str, torch.Tensor] | None = None) -> None:
    """Write a member's checkpoint anew, of another study or with other parameters."""
    state = member.state if parameters is None else replace(member.state, parameters=parameters)
    save_checkpoint(study or member.study, member.seed_id, member.epoch, state, member.info)


def test_member_is_read_back_bit_for_bit(ensemble: Ensemble):
    path = EXPERIMENT.checkpoint_file(0, 15)
    before = path.read_bytes()
    resave(load(ensemble))
    assert path.read_bytes() == before
    member = load(ensemble)
    assert read_state(member.model).parameters.keys() == member.state.parameters.keys()
    for name, tensor in read_state(member.model).parameters.items():
        assert torch.equal(tensor, member.state.parameters[name])
    assert not member.model.training and member.model is member.model


def test_checkpoint_tells_of_its_training(ensemble: Ensemble):
    member = load(ensemble, seed_id=2, epoch=13)
    info = member.info
    assert member.seed == info["seed"] == SEEDS[2] and info["epoch"] == 13 and info["experiment"] == "cnn_digits3_2pc"
    assert info["data"] == ensemble.study.train.fingerprint and info["plan"] == member.plan.as_dict()
    assert info["versions"]["torch"] == torch.__version__.split("+")[0] or info["versions"]["torch"] == torch.__version__
    assert 0 < info["train_loss"] < 3 and 1 / 3 < info["test_accuracy"] <= 1
    assert info["origin"] == {} and member.objective is ensemble.study.task.objective and member.device.type == "cpu"


def test_members_of_a_seed_come_in_the_order_of_the_epochs(ensemble: Ensemble):
    members = load_members(ensemble.study, 1, [15, 12])
    assert [(member.seed_id, member.epoch) for member in members] == [(1, 15), (1, 12)]
    assert all("model" in vars(member) for member in members)


def test_missing_and_damaged_checkpoints_name_the_training_command(ensemble: Ensemble):
    path = EXPERIMENT.checkpoint_file(0, 15)
    os.truncate(path, 100)
    refused(ensemble, "is not a whole tensor file of this project; delete it and run .*run_cnn_training.py")
    path.unlink()
    refused(ensemble, "is missing; .*run_cnn_training.py --model cnn --task digits3 --num_per_class 2")


def test_swapped_epochs_are_noticed(ensemble: Ensemble):
    shutil.copy(EXPERIMENT.checkpoint_file(0, 14), EXPERIMENT.checkpoint_file(0, 15))
    refused(ensemble, "is foreign: its epoch is 14, not 15")


def test_swapped_seeds_are_noticed(ensemble: Ensemble):
    shutil.copy(EXPERIMENT.checkpoint_file(1, 15), EXPERIMENT.checkpoint_file(0, 15))
    refused(ensemble, "is foreign: its seed_id is 1, not 0")


def test_other_seeds_in_the_seeds_file_are_noticed(ensemble: Ensemble):
    torch.save(torch.tensor([5, 6, 7]), ensemble.root / "random_seeds.pt")
    refused(ensemble, "is foreign: its seed is 11, not 5", study=open_study(EXPERIMENT, "cpu"))


def test_checkpoint_of_another_experiment_is_noticed(ensemble: Ensemble):
    other = Experiment("cnn", "digits3", 3)
    other.seed_folder(0).mkdir(parents=True)
    shutil.copy(EXPERIMENT.checkpoint_file(0, 15), other.checkpoint_file(0, 15))
    refused(ensemble, "is foreign: its experiment is cnn_digits3_2pc, not cnn_digits3_3pc", study=open_study(other, "cpu"))


def test_other_training_examples_are_noticed(ensemble: Ensemble):
    words = "was trained on other examples than the index file now names; .*--force"
    refused(ensemble, words, study=replace(ensemble.study, train=ensemble.study.test))
    write_subset(task_named("digits3"), "train", 2, draw_seed=9, force=True)
    refused(ensemble, words, study=open_study(EXPERIMENT, "cpu"))


def test_other_training_plan_is_noticed(ensemble: Ensemble):
    study, plan = ensemble.study, replace(ensemble.study.plan, learning_rate=0.1)
    resave(load(ensemble), replace(study, family=replace(study.family, plan=lambda task: plan)))
    refused(ensemble, "was trained with another training plan than the code now has; .*--force")


def test_other_origin_is_noticed(ensemble: Ensemble):
    study = ensemble.study
    based = replace(study, family=replace(study.family, origin=lambda task: {"base_sha256": "a"}))
    refused(ensemble, "made with base_sha256 None, but base_sha256 is now a", study=based)
    resave(load(ensemble), based)
    assert load(ensemble, study=based).info["origin"] == {"base_sha256": "a"}


def test_other_network_is_noticed(ensemble: Ensemble):
    member = load(ensemble)
    (first, _), *others = member.state.parameters.items()
    for parameters in (member.state.parameters | {first: torch.zeros(2, 2)}, dict(others)):
        resave(member, parameters=parameters)
        refused(ensemble, "holds another network than the two-layer CNN of digits3")


def test_intermediate_results_are_computed_once_for_each_purpose_and_split(ensemble: Ensemble):
    member, calls = load(ensemble), []

    def computed(purpose: str, *splits) -> int:
        return member.remember(purpose, splits, lambda: calls.append(purpose) or len(calls))

    train, test = ensemble.train, ensemble.test
    assert computed("kernel", train, test) == computed("kernel", train, test) == 1
    assert computed("kernel", train, test[:5]) == 2 and computed("kernel", test, train) == 3 and computed("loss", train) == 4
    same = replace(train, inputs=train.inputs.clone())
    assert computed("kernel", same, test) == 1 and calls == ["kernel", "kernel", "kernel", "loss"]
    assert load(ensemble).cache == {}


def test_model_has_the_checkpoint_s_parameters_on_the_study_s_device(ensemble: Ensemble):
    member = load(ensemble)
    with torch.no_grad():
        named = torch.func.functional_call(ensemble.study.new_model(5), member.state.parameters, (ensemble.test.inputs,))
        torch.testing.assert_close(call(member.model, ensemble.test.inputs), named, rtol=1e-5, atol=1e-6)
