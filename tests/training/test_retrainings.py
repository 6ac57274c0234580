"""Retrainings on parts of the training set: what is trained, kept, found again and refused."""

import os
from dataclasses import replace

import pytest
import torch
from conftest import EXPERIMENT, Ensemble, contents
from tiny_model import losses, margins, plain_training, shuffled_batches

from tda.system.errors import UserError
from tda.system.random_streams import stream
from tda.training.evaluation import evaluate
from tda.training.retrainings import Retraining, RetrainingStore, without
from tda.training.study import Study

EVERY_FAMILY = True
WANTED = [Retraining(torch.tensor([0, 1, 3, 5]), 7), Retraining(torch.tensor([0, 1, 3, 5]), 8), Retraining(torch.arange(6), 7)]


@pytest.mark.families("cnn")
def test_a_retraining_is_a_plain_training_on_the_counted_examples(ensemble: Ensemble):
    study = ensemble.study
    store = RetrainingStore(study)
    assert store.fill(WANTED, "test") == 3
    found = store.load(WANTED, "")
    few = study.train[WANTED[0].counted]
    batches = shuffled_batches(stream(7, "batch order"), study.plan, len(few))
    model = plain_training(study.new_model(7), study.plan, few, batches)[-1]
    torch.testing.assert_close(found.losses[0], losses(model, study.test), rtol=2e-3, atol=1e-4)
    # In float64, since 1 - p of a sure model is all rounding in float32.
    expected = margins(model.double(), study.test.cast(torch.float64)).float()
    torch.testing.assert_close(found.margins[0], expected, rtol=2e-3, atol=2e-3)
    assert not torch.equal(found.margins[0], found.margins[1]) and not torch.equal(found.margins[0], found.margins[2])


def test_retraining_of_every_family_is_a_plain_training_on_the_counted_examples(tiny):
    """In float64: losses, margins and predictions are those of a model that never saw the others."""
    train, test, members = tiny
    study = members[0].study
    store, wanted = RetrainingStore(study), [Retraining(torch.tensor([0, 2, 3, 5, 8]), 4), Retraining(torch.arange(1, 9), 5)]
    assert store.fill(wanted, "test") == 2
    found = store.load(wanted, "")
    for number, retraining in enumerate(wanted):
        few = train[retraining.counted]
        batches = shuffled_batches(stream(retraining.seed, "batch order"), study.plan, len(few))
        model = plain_training(study.new_model(retraining.seed), study.plan, few, batches)[-1]
        torch.testing.assert_close(found.losses[number], losses(model, test), rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(found.margins[number], margins(model, test), rtol=1e-7, atol=1e-8)
        assert torch.equal(found.predictions[number], evaluate(model, study.task.objective, test).predictions)


@pytest.mark.families("cnn")
def test_what_is_there_is_found_again_and_the_rest_is_made(ensemble: Ensemble):
    store = RetrainingStore(ensemble.study)
    store.fill(WANTED, "test")
    before = contents(EXPERIMENT.results.path, "retrainings/*")
    assert len(before) == 3 and store.fill(WANTED, "test") == 0
    paths = store.paths(WANTED)
    paths[0].unlink()
    os.truncate(paths[1], 100)
    with pytest.raises(UserError, match="2 of 3 retrainings in .* are missing or damaged; run the command"):
        store.load(WANTED, "the command")
    assert store.fill(WANTED, "test") == 2
    assert contents(EXPERIMENT.results.path, "retrainings/*") == before


@pytest.mark.families("cnn")
def test_another_retraining_under_this_name_is_none(ensemble: Ensemble):
    store = RetrainingStore(ensemble.study)
    store.fill(WANTED, "test")
    before = contents(EXPERIMENT.results.path, "retrainings/*")
    first, second, _ = store.paths(WANTED)
    first.write_bytes(second.read_bytes())
    with pytest.raises(UserError, match="1 of 3 retrainings in .* are missing or damaged; run the command"):
        store.load(WANTED, "the command")
    assert store.fill(WANTED, "test") == 1
    assert contents(EXPERIMENT.results.path, "retrainings/*") == before


@pytest.mark.families("cnn")
def test_what_a_retraining_depends_on_is_in_its_file_s_name(ensemble: Ensemble):
    study = ensemble.study

    def with_family(**changed) -> Study:
        return replace(study, family=replace(study.family, **changed))

    others = [
        replace(study, test=study.test[:9]),
        replace(study, train=study.train[[1, 0, 2, 3, 4, 5]]),
        with_family(plan=lambda task: replace(study.plan, learning_rate=0.1)),
        with_family(origin=lambda task: {"base_sha256": "a"}),
    ]
    names = [path for each in (study, *others) for path in RetrainingStore(each).paths(WANTED)]
    assert len(set(names)) == len(names) == 15
    assert RetrainingStore(replace(study)).paths(WANTED) == names[:3]


@pytest.mark.families("cnn")
def test_diverged_retraining_is_refused_and_not_written(ensemble: Ensemble):
    study, plan = ensemble.study, replace(ensemble.study.plan, learning_rate=1e30)
    store = RetrainingStore(replace(study, family=replace(study.family, plan=lambda task: plan)))
    with pytest.raises(UserError, match="a retraining diverged: its losses are NaN or infinite; .* was not written"):
        store.fill(WANTED[:1], "test")
    assert not contents(EXPERIMENT.results.path, "retrainings/*")


def test_without_leaves_the_others_in_order():
    assert without(5, [3, 0]).tolist() == [1, 2, 4]
    assert without(3, []).tolist() == [0, 1, 2]
