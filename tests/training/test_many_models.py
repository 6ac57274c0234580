"""Training many models against a plain loop, and what the result must not depend on."""

import pytest
import torch
from conftest import CPU, SEEDS, Ensemble
from tiny_model import losses, plain_training, shuffled_batches
from torch import nn

from tda.data.tasks import task_named
from tda.models.families import FAMILIES, family_of, new_model
from tda.models.model_state import ModelState, read_state, trained_parameters
from tda.models.training_plan import TrainingPlan
from tda.system.devices import on_device
from tda.system.random_streams import stream
from tda.training import many_models
from tda.training.ensembles import seed_run
from tda.training.many_models import evaluate, resident_split, train_many
from tda.training.runs import Run, Snapshot

EVERY_FAMILY = True


def runs_without(ensemble: Ensemble, *removed: int | None) -> list[Run]:
    """The training of seed 0, once for each example that is left out."""
    runs = []
    for example in removed:
        weights = torch.ones(len(ensemble.train))
        if example is not None:
            weights[example] = 0
        runs.append(seed_run(ensemble.experiment, SEEDS[0], len(ensemble.train), weights))
    return runs


def plan_of(ensemble: Ensemble) -> TrainingPlan:
    return family_of(ensemble.experiment).plan(task_named("digits3"))


def untrained(ensemble: Ensemble, seed: int = 0) -> nn.Module:
    return on_device(new_model(family_of(ensemble.experiment), task_named("digits3"), seed), CPU)


def train(ensemble: Ensemble, runs: list[Run], **options) -> list[list[Snapshot]]:
    found = dict(train_many(untrained(ensemble), plan_of(ensemble), runs, ensemble.train, **options))
    return [found[number] for number in range(len(runs))]


def assert_same_states(left: ModelState, right: ModelState) -> None:
    assert left.parameters.keys() == right.parameters.keys()
    assert all(torch.equal(tensor, right.parameters[name]) for name, tensor in left.parameters.items())
    for quantity, tensors in left.optimizer.items():
        assert all(torch.equal(tensor, right.optimizer[quantity][name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("removed", [None, 5])
def test_training_is_that_of_a_plain_loop(tiny, removed: int | None):
    """In float64, over six epochs in batches of 4, 4 and 1 examples."""
    split, _, members = tiny
    settings, task = members[0].plan, task_named("digits3")
    weights = torch.ones(len(split))
    if removed is not None:
        weights[removed] = 0
    run = seed_run(members[0].experiment, SEEDS[1], len(split), weights)
    ((_, snapshots),) = train_many(new_model(FAMILIES["tiny"], task, 0), settings, [run], split, keep_states=True)
    batches = shuffled_batches(stream(SEEDS[1], "batch order"), settings, len(split))
    expected = plain_training(new_model(FAMILIES["tiny"], task, SEEDS[1]), settings, split, batches, removed)
    assert [snapshot.step for snapshot in snapshots] == [12, 15, 18]
    for snapshot in snapshots:
        for name, parameter in trained_parameters(expected[snapshot.step - 1]).items():
            torch.testing.assert_close(snapshot.state.parameters[name], parameter.detach(), rtol=1e-8, atol=1e-10)


@pytest.mark.cnn_alone
def test_float32_training_is_close_to_a_plain_loop(ensemble: Ensemble):
    (snapshots,) = train(ensemble, runs_without(ensemble, None), evaluate_on=ensemble.test)
    batches = shuffled_batches(stream(SEEDS[0], "batch order"), plan_of(ensemble), len(ensemble.train))
    expected = plain_training(untrained(ensemble, SEEDS[0]), plan_of(ensemble), ensemble.train, batches)
    for snapshot in snapshots:
        found = snapshot.evaluation.losses
        torch.testing.assert_close(found, losses(expected[snapshot.step - 1], ensemble.test), rtol=2e-3, atol=1e-4)


def test_removing_nothing_changes_nothing_and_removing_something_does(ensemble: Ensemble):
    runs = [*runs_without(ensemble, None, 2), seed_run(ensemble.experiment, SEEDS[0], len(ensemble.train))]
    all_count, without, unweighted = train(ensemble, runs, evaluate_on=ensemble.test)
    for counted, plain, removed in zip(all_count, unweighted, without, strict=True):
        assert torch.equal(counted.evaluation.losses, plain.evaluation.losses)
        assert not torch.equal(counted.evaluation.losses, removed.evaluation.losses)


def test_stored_ensemble_is_trained_like_this(ensemble: Ensemble):
    (snapshots,) = train(ensemble, runs_without(ensemble, None), keep_states=True)
    for snapshot, member in zip(snapshots, ensemble.members(11, 12, 13, 14, 15), strict=True):
        assert_same_states(snapshot.state, member.state)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_result_does_not_depend_on_company_or_threads(ensemble: Ensemble, threads: int):
    (alone,) = train(ensemble, runs_without(ensemble, 1), keep_states=True, evaluate_on=ensemble.test)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = train(ensemble, runs_without(ensemble, 4, 1, None), keep_states=True, evaluate_on=ensemble.test)[1]
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for left, right in zip(alone, together, strict=True):
        assert_same_states(left.state, right.state)
        assert torch.equal(left.evaluation.losses, right.evaluation.losses)


def test_given_model_is_not_changed(ensemble: Ensemble):
    model = untrained(ensemble)
    before = read_state(model)
    list(train_many(model, plan_of(ensemble), runs_without(ensemble, None), ensemble.train))
    assert_same_states(read_state(model), before)


def test_evaluation_does_not_depend_on_batch_size(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch):
    (member,) = ensemble.members(15)
    whole = evaluate(member.model, ensemble.test)
    torch.testing.assert_close(whole.losses, losses(member.model, ensemble.test), rtol=1e-4, atol=1e-6)
    for size in (1, 7, 64):
        monkeypatch.setattr(many_models, "EVALUATION_BATCH", size)
        found = evaluate(member.model, ensemble.test)
        torch.testing.assert_close(found.losses, whole.losses, rtol=1e-4, atol=1e-6)
        assert torch.equal(found.predictions, whole.predictions)


@pytest.mark.cnn_alone
def test_evaluation_switches_dropout_off(ensemble: Ensemble):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(784, 10))
    first, second = evaluate(model, ensemble.test), evaluate(model, ensemble.test)
    assert torch.equal(first.losses, second.losses)
    expected = model[2](ensemble.test.inputs.flatten(1)).argmax(1)
    assert torch.equal(first.predictions, expected)


@pytest.mark.cnn_alone
def test_resident_split_keeps_the_examples(ensemble: Ensemble):
    resident = resident_split(ensemble.test, CPU)
    assert torch.equal(resident.images, ensemble.test.inputs)
    assert resident.images.is_contiguous(memory_format=torch.channels_last)


def test_error_in_one_run_ends_all(ensemble: Ensemble):
    runs = runs_without(ensemble, None, 1)
    broken = Run(runs[0].start, [torch.tensor([99])], [1])
    with pytest.raises(IndexError):
        train(ensemble, [broken, *runs])
