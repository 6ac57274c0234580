"""Training many models against a plain loop, and what the result must not depend on."""

from dataclasses import replace

import pytest
import torch
from conftest import SEEDS, Ensemble
from tiny_model import losses, plain_training, shuffled_batches
from torch import nn

from tda.models.model_state import ModelState, read_state, trained_parameters
from tda.models.resnet import residual_network
from tda.system.devices import on_device
from tda.system.errors import UserError
from tda.system.random_streams import stream
from tda.training.ensembles import seed_run
from tda.training.many_models import train_many
from tda.training.runs import Run, Snapshot
from tda.training.study import Study

EVERY_FAMILY = True


def run_without(study: Study, removed: int | None, seed: int = SEEDS[0]) -> Run:
    """The training of a seed with one example left out."""
    weights = torch.ones(len(study.train))
    if removed is not None:
        weights[removed] = 0
    return seed_run(study, seed, weights)


def untrained(study: Study, seed: int = 0) -> nn.Module:
    return on_device(study.new_model(seed), study.device)


def train(study: Study, runs: list[Run], **options) -> list[list[Snapshot]]:
    split = study.inputs(study.train)
    found = dict(train_many(untrained(study), study.plan, study.task.objective, runs, split, **options))
    return [found[number] for number in range(len(runs))]


def assert_same_states(left: ModelState, right: ModelState) -> None:
    assert left.parameters.keys() == right.parameters.keys()
    assert all(torch.equal(tensor, right.parameters[name]) for name, tensor in left.parameters.items())
    assert left.optimizer.keys() == right.optimizer.keys()
    for quantity, tensors in left.optimizer.items():
        assert all(torch.equal(tensor, right.optimizer[quantity][name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("removed", [None, 5])
def test_training_is_that_of_a_plain_loop(tiny, removed: int | None):
    """In float64, over six epochs in batches of 4, 4 and 1 examples."""
    split, _, members = tiny
    study = members[0].study
    (snapshots,) = train(study, [run_without(study, removed, SEEDS[1])], keep_states=True)
    batches = shuffled_batches(stream(SEEDS[1], "batch order"), study.plan, len(split))
    expected = plain_training(study.new_model(SEEDS[1]), study.plan, split, batches, removed)
    assert [snapshot.step for snapshot in snapshots] == [12, 15, 18]
    for snapshot in snapshots:
        for name, parameter in trained_parameters(expected[snapshot.step - 1]).items():
            torch.testing.assert_close(snapshot.state.parameters[name], parameter.detach(), rtol=1e-8, atol=1e-10)


@pytest.mark.families("cnn")
def test_float32_training_is_close_to_a_plain_loop(ensemble: Ensemble):
    study = ensemble.study
    (snapshots,) = train(study, [run_without(study, None)], evaluate_on=ensemble.test)
    batches = shuffled_batches(stream(SEEDS[0], "batch order"), study.plan, len(ensemble.train))
    expected = plain_training(untrained(study, SEEDS[0]), study.plan, ensemble.train, batches)
    for snapshot in snapshots:
        found = snapshot.evaluation.losses
        torch.testing.assert_close(found, losses(expected[snapshot.step - 1], ensemble.test), rtol=2e-3, atol=1e-4)


def test_removing_nothing_changes_nothing_and_removing_something_does(ensemble: Ensemble):
    study = ensemble.study
    runs = [run_without(study, None), run_without(study, 2), seed_run(study, SEEDS[0])]
    all_count, without, unweighted = train(study, runs, evaluate_on=ensemble.test)
    for counted, plain, removed in zip(all_count, unweighted, without, strict=True):
        assert torch.equal(counted.evaluation.losses, plain.evaluation.losses)
        assert not torch.equal(counted.evaluation.losses, removed.evaluation.losses)


def test_stored_ensemble_is_trained_like_this(ensemble: Ensemble):
    (snapshots,) = train(ensemble.study, [run_without(ensemble.study, None)], keep_states=True)
    for snapshot, member in zip(snapshots, ensemble.members(11, 12, 13, 14, 15), strict=True):
        assert_same_states(snapshot.state, member.state)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_result_does_not_depend_on_company_or_threads(ensemble: Ensemble, threads: int):
    study = ensemble.study
    (alone,) = train(study, [run_without(study, 1)], keep_states=True, evaluate_on=ensemble.test)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        runs = [run_without(study, removed) for removed in (4, 1, None)]
        together = train(study, runs, keep_states=True, evaluate_on=ensemble.test)[1]
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for left, right in zip(alone, together, strict=True):
        assert_same_states(left.state, right.state)
        assert torch.equal(left.evaluation.losses, right.evaluation.losses)


def test_no_family_depends_on_company(tiny):
    _, test, members = tiny
    study = members[0].study
    (alone,) = train(study, [run_without(study, 1)], keep_states=True, evaluate_on=test)
    together = train(study, [run_without(study, removed) for removed in (4, 1)], keep_states=True, evaluate_on=test)[1]
    for left, right in zip(alone, together, strict=True):
        assert_same_states(left.state, right.state)
        assert torch.equal(left.evaluation.losses, right.evaluation.losses)
        assert torch.equal(left.evaluation.predictions, right.evaluation.predictions)


def test_given_model_is_not_changed(ensemble: Ensemble):
    study, model = ensemble.study, untrained(ensemble.study)
    before = read_state(model)
    list(train_many(model, study.plan, study.task.objective, [run_without(study, None)], ensemble.train))
    assert_same_states(read_state(model), before)


def test_error_in_one_run_ends_all(ensemble: Ensemble):
    runs = [run_without(ensemble.study, removed) for removed in (None, 1)]
    broken = Run(runs[0].start, [torch.tensor([99])], [1])
    with pytest.raises(IndexError):
        train(ensemble.study, [broken, *runs])


@pytest.mark.families("cnn")
def test_batch_of_one_that_cannot_be_normalised_is_refused_before_training(ensemble: Ensemble):
    def trained(size: int) -> list:
        pictures = replace(ensemble.train, inputs=ensemble.train.inputs[:, :, :size, :size])
        return list(train_many(residual_network(study.task), study.plan, study.task.objective, [run], pictures))

    study = ensemble.study
    run = Run(read_state(residual_network(study.task)), [torch.tensor([0, 1]), torch.tensor([2])], [2], seed=SEEDS[0])
    assert [snapshot.step for snapshot in trained(9)[0][1]] == [2]
    with pytest.raises(UserError, match="the last batch of an epoch is one example"):
        trained(8)
