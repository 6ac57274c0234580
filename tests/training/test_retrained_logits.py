"""Trainings on changed data: what is trained, kept, found again and refused."""

import os

import pytest
import torch
from conftest import EXPERIMENT, Ensemble, contents

from tda.system.errors import UserError
from tda.training.evaluation import logits_of_split
from tda.training.retrained_logits import ChangedTraining, LogitStore
from tda.training.retrainings import Retraining, RetrainingStore

OTHER_LABELS = torch.tensor([0, 1, 2, 1, 1, 2])


def test_logits_are_those_whose_losses_a_retraining_keeps(ensemble: Ensemble):
    study, counted = ensemble.study, torch.tensor([0, 1, 3, 5])
    store, plain = LogitStore(study, study.test), RetrainingStore(study)
    trainings = [ChangedTraining(counted, 7), ChangedTraining(torch.arange(6), 8), ChangedTraining(counted, 7)]
    assert store.fill(trainings, "test") == 2
    retrainings = [Retraining(counted, 7), Retraining(torch.arange(6), 8)]
    plain.fill(retrainings, "test")
    logits = store.load(trainings, "")
    assert logits.shape == (3, 150, 10) and torch.equal(logits[0], logits[2])
    expected = plain.load(retrainings, "").losses
    for number in range(2):
        found = study.task.objective.loss(logits[number], study.test.labels)
        torch.testing.assert_close(found, expected[number], rtol=1e-5, atol=1e-6)


def test_other_labels_are_trained_on_and_the_same_ones_are_the_study_s(ensemble: Ensemble):
    study = ensemble.study
    store = LogitStore(study, study.train)
    all_six = torch.arange(6)
    trainings = [
        ChangedTraining(all_six, 7),
        ChangedTraining(all_six, 7, OTHER_LABELS),
        ChangedTraining(all_six, 7, study.train.labels),
    ]
    assert store.fill(trainings, "test") == 3
    plain, changed, same = store.load(trainings, "")
    assert plain.shape == (6, 10) and torch.equal(plain, same) and not torch.allclose(plain, changed, atol=1e-3)
    loss = study.task.objective.loss
    assert loss(changed, OTHER_LABELS).mean() < loss(plain, OTHER_LABELS).mean()


def test_what_is_there_is_found_again_and_the_rest_is_made(ensemble: Ensemble):
    store = LogitStore(ensemble.study, ensemble.study.test)
    trainings = [ChangedTraining(torch.tensor([0, 1, 2, 5]), seed) for seed in (1, 2)]
    store.fill(trainings, "test")
    before = contents(EXPERIMENT.results.path, "retrainings/*")
    assert store.fill(trainings, "test") == 0
    os.truncate(store.paths(trainings)[0], 100)
    with pytest.raises(UserError, match="1 of 2 retrainings in .* are missing or damaged; run the command"):
        store.load(trainings, "the command")
    assert store.fill(trainings, "test") == 1
    assert contents(EXPERIMENT.results.path, "retrainings/*") == before
    of_train = LogitStore(ensemble.study, ensemble.study.train)
    assert not set(of_train.paths(trainings)) & set(store.paths(trainings))


def test_training_on_all_examples_from_a_member_s_seed_is_the_member(ensemble: Ensemble):
    """So that members stand for it where changed trainings are compared with training on all, paired over seeds."""
    study, (member,) = ensemble.study, ensemble.members(15, seed_id=1)
    store, training = LogitStore(study, study.test), ChangedTraining(torch.arange(6), study.seeds[1])
    store.fill([training], "test")
    expected = logits_of_split(member.model, study.inputs(study.test))
    torch.testing.assert_close(store.load([training], "")[0], expected, rtol=1e-4, atol=1e-5)
