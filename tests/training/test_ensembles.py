"""An ensemble as a whole."""

import numpy as np
import torch
from conftest import CPU, EXPERIMENT, SEEDS, Ensemble

from tda.data.splits import load_split
from tda.data.tasks import task_named
from tda.training.ensembles import load_members, predicted_labels, seed_run


def test_run_of_a_seed_covers_all_epochs():
    run = seed_run(EXPERIMENT, SEEDS[0], 70)
    assert len(run.batches) == 45 and run.snapshots == [33, 36, 39, 42, 45] and run.weights is None
    again, other = seed_run(EXPERIMENT, SEEDS[0], 70), seed_run(EXPERIMENT, SEEDS[1], 70)
    name = next(iter(run.start.parameters))
    assert torch.equal(run.start.parameters[name], again.start.parameters[name])
    assert not torch.equal(run.start.parameters[name], other.start.parameters[name])
    assert torch.equal(run.batches[3], again.batches[3]) and not torch.equal(run.batches[3], other.batches[3])


def test_members_differ_between_seeds_and_epochs(ensemble: Ensemble):
    members = [*ensemble.members(11, 15), *ensemble.members(15, seed_id=1)]
    assert [(member.seed_id, member.epoch, member.seed) for member in members] == [(0, 11, 11), (0, 15, 11), (1, 15, 22)]
    logits = [member.model(ensemble.test.inputs) for member in members]
    assert not torch.equal(logits[0], logits[1]) and not torch.equal(logits[1], logits[2])


def test_predicted_labels_are_those_of_the_last_checkpoints(ensemble: Ensemble):
    test = load_split(task_named("digits3"), "test")
    found = predicted_labels(EXPERIMENT, [2, 0], test)
    assert found.shape == (2, 150)
    for labels, seed_id in zip(found, (2, 0), strict=True):
        (member,) = load_members(EXPERIMENT, seed_id, [15], ensemble.train, CPU)
        with torch.no_grad():
            np.testing.assert_array_equal(labels, member.model(test.inputs).argmax(1))
        assert (torch.tensor(labels) == test.labels).double().mean() == member.info["test_accuracy"]
