"""Signals of members against naive loops, and that they are computed once."""

import numpy as np
import pytest
import torch
from conftest import Ensemble

from tda.debiasing import member_signals
from tda.debiasing.member_signals import MemberSignals
from tda.debiasing.suspicion import neighbour_disagreement
from tda.debiasing.training_history import forgetting
from tda.gradients.representations import penultimate_representations
from tda.methods.registry import load_method
from tda.scores.fresh_scores import read_checkpoints


@pytest.fixture
def signals(ensemble: Ensemble) -> MemberSignals:
    return MemberSignals(ensemble.study, read_checkpoints(ensemble.study.experiment), [0, 1, 2])


def test_signals_are_of_every_seed_s_checkpoints(signals: MemberSignals, ensemble: Ensemble):
    study, epochs = ensemble.study, ensemble.study.plan.kept_epochs
    logits, forgotten, neighbours = signals.logits("train"), signals.forgetting(), signals.neighbours_of_other_labels(2)
    influence = signals.self_influence("grad_dot")
    assert signals.logits("test").shape == (3, 150, 10)
    for seed_id in (0, 2):
        members = ensemble.members(*epochs, seed_id=seed_id)
        said = [member.model(ensemble.train.inputs).detach() for member in members]
        np.testing.assert_allclose(logits[seed_id], said[-1], rtol=1e-4, atol=1e-5)
        correct = torch.stack([each.argmax(1) for each in said]) == study.train.labels
        np.testing.assert_array_equal(forgotten[seed_id], forgetting(correct.numpy()))
        representations = penultimate_representations(members[-1].model, ensemble.train.inputs)
        np.testing.assert_array_equal(neighbours[seed_id], neighbour_disagreement(representations, study.train.labels, 2))
        method = load_method("grad_dot")
        (scores,) = method.score(members[-1:], ensemble.train, ensemble.train, method.settings)
        np.testing.assert_allclose(influence[seed_id], scores.scores.diagonal(), rtol=1e-5)


def test_what_was_computed_is_kept_for_these_checkpoints_alone(signals: MemberSignals, monkeypatch: pytest.MonkeyPatch):
    before = signals.logits("train")
    monkeypatch.setattr(member_signals, "logits_of_split", None)
    np.testing.assert_array_equal(signals.logits("train"), before)
    signals.checkpoints.infos[1, 15]["sha256"] = "another"
    with pytest.raises(TypeError):
        signals.logits("train")
