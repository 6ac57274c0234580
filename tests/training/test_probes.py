"""Trainings at other weights against a plain loop, and the files that they are kept in."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Ensemble
from tiny_model import flat_parameters, losses, margins
from torch.nn import functional

from tda.models.model_state import write_state
from tda.system.errors import UserError
from tda.training import probes
from tda.training.ensembles import seed_run
from tda.training.probes import Probe, probe_file, probe_seed, probed_seeds, removal
from tda.training.study import Study


def plainly_trained(study: Study, weights: torch.Tensor) -> torch.nn.Module:
    """The seed's training with each example's loss times its weight, by torch's own optimizer."""
    run, model = seed_run(study, study.seed(0)), study.new_model(study.seed(0))
    write_state(run.start, model)
    plan = study.plan
    optimizer = torch.optim.Adam(model.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    for batch in run.batches:
        optimizer.zero_grad()
        each = functional.cross_entropy(model(study.train.inputs[batch]), study.train.labels[batch], reduction="none")
        (each * weights[batch]).mean().backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("probe", [removal(2, 3), Probe(0, 0.1, 2)])
def test_what_is_kept_is_that_of_plain_trainings(tiny, probe: Probe):
    train, test, members = tiny
    study = members[0].study
    assert probe_seed(study, 0, probe) and not probe_seed(study, 0, probe)
    (found,) = probed_seeds(study, probe).values()
    directions = probe.directions(len(train))
    start = plainly_trained(study, torch.ones(9))
    np.testing.assert_allclose(found.losses, losses(start, test), rtol=1e-6)
    np.testing.assert_allclose(found.margins, margins(start, test), rtol=1e-6)
    predicted = start(test.inputs).argmax(1)
    assert found.accuracy == pytest.approx(float((predicted == test.labels).double().mean()))
    assert found.along.shape == (len(probe.lengths), probe.num_directions, 12)
    for number, direction in enumerate(directions):
        ends = [plainly_trained(study, 1 + length * direction.float()) for length in probe.lengths]
        for place, model in enumerate(ends):
            np.testing.assert_allclose(found.along[place, number], losses(model, test), rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(found.margins_along[place, number], margins(model, test), rtol=1e-5, atol=1e-6)
        at = [flat_parameters(model) for model in (start, *ends[:2])]
        distance = (at[2] - at[0]).abs()
        agreement = (distance * (at[1] - at[0]).sign() * (at[2] - at[1]).sign()).sum() / distance.sum()
        assert found.agreement[number] == pytest.approx(float(agreement), abs=1e-4)


def test_directions_are_what_they_say():
    taken = removal(3, 50).directions(10)
    assert taken.shape == (50, 10) and taken.dtype == torch.float64 and removal(3, 50).lengths == (0.5, 1, 1 / 64)
    assert (taken.sum(1) == -3).all() and ((taken == 0) | (taken == -1)).all()
    assert len({tuple(row.tolist()) for row in taken}) > 20
    assert torch.equal(removal(3, 4).directions(10), taken[:4])
    moved = Probe(0, 0.1, 400).directions(10)
    assert Probe(0, 0.1, 400).lengths == (0.1, 0.2)
    assert moved.mean() == pytest.approx(0, abs=0.05) and moved.std() == pytest.approx(1, abs=0.05)


def test_other_plans_seeds_and_probes_have_files_of_their_own(ensemble: Ensemble):
    study = ensemble.study
    changed = replace(study, family=replace(study.family, plan=lambda task: replace(study.plan, learning_rate=1e-4)))
    altered = replace(study, family=replace(study.family, origin=lambda task: {"altered": {"pool": None}}))
    cases = [(each, seed_id, probe) for each in (study, changed, altered) for seed_id in (0, 1) for probe in PROBES]
    assert len({probe_file(*case) for case in cases}) == len(cases)


PROBES = (removal(1, 2), removal(2, 2), removal(1, 3), Probe(0, 0.1, 2), Probe(0, 0.2, 2))


def test_damaged_file_is_made_again(ensemble: Ensemble):
    study = replace(ensemble.study, test=ensemble.study.test[:5])
    probe = removal(1, 2)
    assert probe_seed(study, 1, probe)
    path = probe_file(study, 1, probe)
    before = path.read_bytes()
    path.write_bytes(before[:-3])
    assert probed_seeds(study, probe) == {}
    assert probe_seed(study, 1, probe) and path.read_bytes() == before and list(probed_seeds(study, probe)) == [1]
    assert probe_seed(study, 1, probe, force=True)


def test_a_training_that_diverges_is_refused_and_nothing_written(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch):
    study = ensemble.study
    wild = replace(study, family=replace(study.family, plan=lambda task: replace(study.plan, learning_rate=1e30)))
    with pytest.raises(UserError, match="a training of cnn_digits3_2pc diverged"):
        probe_seed(wild, 0, removal(1, 2))
    assert not probe_file(wild, 0, removal(1, 2)).exists()
    monkeypatch.setattr(probes, "train_many", None)
    with pytest.raises(UserError, match="--removed 6 leaves nothing of 6 training examples"):
        probe_seed(study, 0, removal(6, 2))
