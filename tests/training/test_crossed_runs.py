"""Crossed runs: the ensemble's own on the diagonal, batches of another seed beside it, and files that know what they are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Ensemble

from tda.experiments.folders import Experiment
from tda.methods.registry import load_method
from tda.models.model_state import read_state
from tda.system.devices import on_device
from tda.system.errors import UserError
from tda.training.crossed_runs import CrossedRuns
from tda.training.ensembles import members_in_memory, seed_run
from tda.training.evaluation import evaluate
from tda.training.many_models import train_many
from tda.training.members import Member
from tda.training.study import Study, open_study


def number_of(member: Member) -> float:
    """A number that no other member has."""
    return float(np.float32(sum(float(tensor.double().sum()) for _, tensor in sorted(member.state.parameters.items()))))


def sums(members, train, test):
    """A method of one number a member."""
    for member in members:
        yield torch.full((len(train), len(test)), number_of(member))


def test_a_run_takes_its_start_from_one_seed_and_its_batches_from_another(ensemble: Ensemble):
    study, seeds = ensemble.study, ensemble.study.seeds
    crossed = seed_run(replace(study, order_seed=seeds[2]), seeds[1])
    for name, tensor in read_state(study.new_model(seeds[1])).parameters.items():
        assert torch.equal(crossed.start.parameters[name], tensor)
    assert all(map(torch.equal, crossed.batches, seed_run(study, seeds[2]).batches)) and crossed.seed == seeds[2]
    assert not all(map(torch.equal, crossed.batches, seed_run(study, seeds[1]).batches))


def test_members_in_memory_at_the_kept_epochs_are_those_on_disk(ensemble: Ensemble):
    found = members_in_memory(ensemble.study, [0, 2], [11, 15])
    assert [(member.seed_id, member.epoch) for member in found] == [(0, 11), (0, 15), (2, 11), (2, 15)]
    for member in found:
        (kept,) = ensemble.members(member.epoch, seed_id=member.seed_id)
        for name, tensor in kept.state.parameters.items():
            assert torch.equal(member.state.parameters[name], tensor)


def test_the_diagonal_is_the_ensemble_and_the_rest_is_not(ensemble: Ensemble):
    design = CrossedRuns(ensemble.study, range(2), range(3))
    assert design.fill("sums", {}, sums) == 6
    scores = design.load("sums", {}, "again")
    assert scores.shape == (2, 3, 5, 6, 150)
    for seed_id in range(2):
        own = [number_of(member) for member in ensemble.members(*range(11, 16), seed_id=seed_id)]
        np.testing.assert_array_equal(scores[seed_id, seed_id, :, 0, 0], own)


@pytest.fixture
def in_batches(root: Path) -> Study:
    """A study whose epochs have three batches; that of the ensemble has one, so that the order changes but roundings."""
    return open_study(Experiment("cnn", "digits3", 2, "batch2"), "cpu")


def test_every_start_and_every_order_makes_another_model(in_batches: Study):
    design = CrossedRuns(in_batches, range(2), range(3))
    design.fill("sums", {}, sums)
    scores = design.load("sums", {}, "again")[:, :, -1, 0, 0]
    assert np.abs(np.subtract.outer(scores, scores).reshape(6, 6) + np.eye(6)).min() > 1e-3


def test_leave_one_out_of_a_crossed_run_holds_the_order(ensemble: Ensemble):
    """By hand: the run without an example has the same start and, of the other seed, the same batches."""
    study = ensemble.study
    crossed, method = replace(study, order_seed=study.seeds[1]), load_method("loo")
    (member,) = members_in_memory(crossed, [0], [15])
    (found,) = method.score([member], ensemble.train, ensemble.test, {})
    weights = torch.ones(len(ensemble.train))
    weights[4] = 0
    runs = [seed_run(crossed, study.seeds[0], each, [15]) for each in (None, weights)]
    model = on_device(study.new_model(), study.device)
    trained = dict(train_many(model, study.plan, study.task.objective, runs, ensemble.train, ensemble.test))
    losses = [trained[number][0].evaluation.losses for number in range(2)]
    assert torch.equal(found.scores[4], losses[1] - losses[0])
    assert torch.equal(losses[0], evaluate(member.model, study.task.objective, ensemble.test).losses)


def test_finished_runs_are_kept_and_damaged_ones_made_again(ensemble: Ensemble):
    design = CrossedRuns(ensemble.study, range(2), range(2))
    design.fill("sums", {}, sums)
    before = design.load("sums", {}, "again")
    assert design.fill("sums", {}, sums) == 0
    path = design.path("sums", {}, 0, 1)
    path.write_bytes(path.read_bytes()[:-7] + b"nothing")
    with pytest.raises(UserError, match="1 of the runs that sums .* run this again"):
        design.load("sums", {}, "this again")
    assert design.fill("sums", {}, sums) == 1
    np.testing.assert_array_equal(design.load("sums", {}, "again"), before)
    # A file under another's name is that of another run.
    design.path("sums", {}, 1, 1).write_bytes(path.read_bytes())
    assert design.fill("sums", {}, sums) == 1
    assert design.fill("sums", {}, sums, force=True) == 4


def test_settings_starts_and_orders_tell_runs_apart(ensemble: Ensemble):
    design = CrossedRuns(ensemble.study, range(2), range(2))
    paths = {design.path("a", {"b": value}, start, order) for value in (1, 2) for start in (0, 1) for order in (0, 1)}
    assert len(paths) == 8
    other = CrossedRuns(replace(ensemble.study, train=ensemble.study.train[:4]), range(2), range(2))
    assert other.path("a", {"b": 1}, 0, 0) not in paths


def test_scores_that_are_no_numbers_are_refused(ensemble: Ensemble):
    design = CrossedRuns(ensemble.study, range(2), range(2))

    def not_finite(members, train, test):
        yield torch.full((len(train), len(test)), torch.nan)

    with pytest.raises(UserError, match="NaN or infinite"):
        design.fill("broken", {}, not_finite)
    assert not design.path("broken", {}, 0, 0).exists()
