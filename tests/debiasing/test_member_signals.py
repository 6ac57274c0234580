"""Signals of members against naive loops, and that they are computed once."""

import numpy as np
import pytest
import torch
from conftest import Ensemble
from torch.nn import functional

from tda.debiasing import member_signals
from tda.debiasing.member_signals import MemberSignals, forgetting_events, share_of_other_labels
from tda.gradients.representations import penultimate_representations
from tda.methods.registry import load_method
from tda.scores.fresh_scores import read_checkpoints


@pytest.fixture
def signals(ensemble: Ensemble) -> MemberSignals:
    return MemberSignals(ensemble.study, read_checkpoints(ensemble.study.experiment), [0, 1, 2])


def test_forgetting_events_are_those_of_a_naive_loop():
    correct = torch.rand(6, 50, generator=torch.Generator().manual_seed(0)) < 0.4
    correct[:, 3] = False
    found = forgetting_events(correct)
    for example in range(50):
        history = correct[:, example].tolist()
        events = sum(before and not after for before, after in zip(history, history[1:], strict=False))
        assert found[example] == (events if any(history) else 6)
    assert found[3] == 6


def test_neighbours_are_those_of_a_naive_loop(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(member_signals, "_ROWS_AT_ONCE", 7)
    generator = torch.Generator().manual_seed(0)
    representations, labels = torch.randn(20, 3, generator=generator), torch.randint(3, (20,), generator=generator)
    found = share_of_other_labels(representations, labels, 4)
    for row in range(20):
        cosines = functional.cosine_similarity(representations[row], representations, dim=1)
        nearest = [other for other in cosines.argsort(descending=True).tolist() if other != row][:4]
        assert found[row] == pytest.approx(np.mean([bool(labels[other] != labels[row]) for other in nearest]))


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
        np.testing.assert_array_equal(forgotten[seed_id], forgetting_events(correct))
        representations = penultimate_representations(members[-1].model, ensemble.train.inputs)
        np.testing.assert_array_equal(neighbours[seed_id], share_of_other_labels(representations, study.train.labels, 2))
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
