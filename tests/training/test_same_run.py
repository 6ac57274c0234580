"""Retrainings of the same run of every family: the run of all examples without the terms of the others."""

import torch
from tiny_model import losses, plain_training, shuffled_batches

from tda.system.random_streams import stream
from tda.training.retrainings import Retraining, RetrainingStore, without

EVERY_FAMILY = True


def test_the_same_run_keeps_start_and_batches_and_lacks_the_others_terms(tiny):
    """In float64: a textbook's loop, in which a batch's sum lacks the term and is divided by the whole batch's size."""
    train, test, members = tiny
    study = members[0].study
    store, seed = RetrainingStore(study), study.seed(0)
    wanted = [Retraining(counted, seed, same_run=True) for counted in (torch.arange(len(train)), without(len(train), [3]))]
    assert store.fill(wanted, "test") == 2
    found = store.load(wanted, "")
    batches = shuffled_batches(stream(seed, "batch order"), study.plan, len(train))
    for number, removed in enumerate((None, 3)):
        model = plain_training(study.new_model(seed), study.plan, train, batches, removed)[-1]
        torch.testing.assert_close(found.losses[number], losses(model, test), rtol=1e-8, atol=1e-10)
    assert not torch.equal(found.losses[0], found.losses[1])
    assert len({*store.paths(wanted), *store.paths([Retraining(wanted[1].counted, seed)])}) == 3
