"""Retrainings on parts of the training set: what is trained, kept, found again and refused."""

import os

import pytest
import torch
from conftest import EXPERIMENT, Ensemble, contents
from tiny_model import losses, plain_training, shuffled_batches

from tda.data.splits import Split
from tda.data.tasks import task_named
from tda.gradients.quantities import margin
from tda.models.families import family_of, new_model
from tda.system.errors import UserError
from tda.system.random_streams import stream
from tda.training.retrainings import Retraining, RetrainingStore, without
from tda.training.study import open_study

WANTED = [Retraining(torch.tensor([0, 1, 3, 5]), 7), Retraining(torch.tensor([0, 1, 3, 5]), 8), Retraining(torch.arange(6), 7)]


@pytest.fixture
def store(ensemble: Ensemble) -> RetrainingStore:
    return RetrainingStore(open_study(EXPERIMENT, "cpu"))


def test_a_retraining_is_a_plain_training_on_the_counted_examples(store: RetrainingStore):
    assert store.fill(WANTED, "test") == 3
    found = store.load(WANTED, "")
    part = WANTED[0].counted
    few = Split(store.train.inputs[part], store.train.labels[part], store.train.indices[part])
    family, task = family_of(EXPERIMENT), task_named("digits3")
    plan = family.plan(task)
    batches = shuffled_batches(stream(7, "batch order"), plan, len(few))
    model = plain_training(new_model(family, task, 7), plan, few, batches)[-1]
    torch.testing.assert_close(found.losses[0], losses(model, store.test), rtol=2e-3, atol=1e-4)
    with torch.no_grad():
        expected = margin(model(store.test.inputs), store.test.labels)
    torch.testing.assert_close(found.margins[0], expected, rtol=2e-3, atol=2e-3)
    assert not torch.equal(found.margins[0], found.margins[1]) and not torch.equal(found.margins[0], found.margins[2])


def test_what_is_there_is_found_again_and_the_rest_is_made(store: RetrainingStore):
    store.fill(WANTED, "test")
    before = contents(store.experiment.results.path, "retrainings/*")
    assert len(before) == 3 and store.fill(WANTED, "test") == 0
    paths = store.paths(WANTED)
    paths[0].unlink()
    os.truncate(paths[1], 100)
    with pytest.raises(UserError, match="2 of 3 retrainings in .* are missing or damaged; run the command"):
        store.load(WANTED, "the command")
    assert store.fill(WANTED, "test") == 2
    assert contents(store.experiment.results.path, "retrainings/*") == before


def test_other_data_has_other_files(store: RetrainingStore):
    few = Split(store.test.inputs[:9], store.test.labels[:9], store.test.indices[:9])
    other = RetrainingStore(EXPERIMENT, store.train, few)
    assert not set(other.paths(WANTED)) & set(store.paths(WANTED))


def test_without_leaves_the_others_in_order():
    assert without(5, [3, 0]).tolist() == [1, 2, 4]
    assert without(3, []).tolist() == [0, 1, 2]
