"""An ensemble as a whole: how it is trained, read back and looked at."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SEEDS, Ensemble
from tiny_model import losses

from tda.models.model_state import ModelState, read_state
from tda.system.errors import UserError
from tda.system.inputs import call
from tda.training.ensembles import members_in_memory, predicted_labels, seed_run, train_ensemble
from tda.training.members import load_member, load_members

EVERY_FAMILY = True


@pytest.mark.families("cnn")
def test_run_of_a_seed_covers_all_epochs(ensemble: Ensemble):
    study = replace(ensemble.study, train=ensemble.study.test[:70])
    run = seed_run(study, SEEDS[0])
    assert len(run.batches) == 45 and run.snapshots == [33, 36, 39, 42, 45] and run.weights is None and run.seed == SEEDS[0]
    assert seed_run(study, SEEDS[0], epochs=[2, 15]).snapshots == [6, 45]
    again, other = seed_run(study, SEEDS[0]), seed_run(study, SEEDS[1])
    name = next(iter(run.start.parameters))
    assert torch.equal(run.start.parameters[name], again.start.parameters[name])
    assert not torch.equal(run.start.parameters[name], other.start.parameters[name])
    assert torch.equal(run.batches[3], again.batches[3]) and not torch.equal(run.batches[3], other.batches[3])


@pytest.mark.families("cnn")
def test_members_differ_between_seeds_and_epochs(ensemble: Ensemble):
    members = [*ensemble.members(11, 15), *ensemble.members(15, seed_id=1)]
    assert [(member.seed_id, member.epoch, member.seed) for member in members] == [(0, 11, 11), (0, 15, 11), (1, 15, 22)]
    logits = [member.model(ensemble.test.inputs) for member in members]
    assert not torch.equal(logits[0], logits[1]) and not torch.equal(logits[1], logits[2])


def test_predicted_labels_are_those_of_the_last_checkpoints(ensemble: Ensemble):
    study = ensemble.study
    found, test = predicted_labels(study, [2, 0]), study.inputs(study.test)
    assert found.shape == (2, 150)
    for labels, seed_id in zip(found, (2, 0), strict=True):
        (member,) = load_members(study, seed_id, [15])
        with torch.no_grad():
            np.testing.assert_array_equal(labels, member.model(test.inputs).argmax(1))
        assert (torch.tensor(labels) == test.labels).double().mean() == member.info["test_accuracy"]


def assert_close(left: ModelState, right: ModelState) -> None:
    """Equal but for the rounding of another memory layout, in which the fixture trains."""
    for name, tensor in left.parameters.items():
        torch.testing.assert_close(tensor, right.parameters[name], rtol=1e-9, atol=1e-11)


def test_checkpoints_on_disk_are_the_members_trained_in_memory(tiny):
    """Of every family; what a checkpoint says of itself is what a plain loop finds."""
    train, test, members = tiny
    study = members[0].study
    assert train_ensemble(study, [0], force=False) == 1 and train_ensemble(study, [0], force=False) == 0
    for member in members:
        loaded = load_member(study, 0, member.epoch)
        assert loaded.state.parameters.keys() == member.state.parameters.keys()
        assert_close(read_state(loaded.model), member.state)
        for name, split in (("train", train), ("test", test)):
            assert loaded.info[f"{name}_loss"] == pytest.approx(float(losses(member.model, split).mean()), rel=1e-9)
        with torch.no_grad():
            logits = call(member.model, test.inputs)
        if test.labels.dim() == 1:
            expected = (logits.argmax(1) == test.labels).double().mean()
        else:
            counted = test.labels[:, 1:] >= 0
            right = (logits[:, :-1].argmax(2) == test.labels[:, 1:]) & counted
            expected = (right.sum(1) / counted.sum(1)).mean()
        assert loaded.info["test_accuracy"] == pytest.approx(float(expected))


def test_members_in_memory_are_those_of_the_last_epoch(tiny):
    _, _, members = tiny
    first, second = members_in_memory(members[0].study, [0, 1])
    assert [(member.seed_id, member.epoch) for member in (first, second)] == [(0, 6), (1, 6)]
    assert_close(first.state, members[2].state)
    assert any(not torch.equal(tensor, second.state.parameters[name]) for name, tensor in first.state.parameters.items())


@pytest.mark.families("cnn")
def test_epochs_outside_the_training_are_refused(ensemble: Ensemble):
    for epoch in (0, 16):
        with pytest.raises(UserError, match=f"cannot keep the epochs .*{epoch}.*: the training has epochs 1 to 15"):
            train_ensemble(ensemble.study, [0], force=True, early_epochs=[epoch])
