"""Suspicions of wrong labels against what they are by definition, on the tiny trained ensemble."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Ensemble
from torch.nn import functional

from tda.debiasing import confident_learning
from tda.debiasing.confident_learning import adjusted_suspicion
from tda.debiasing.out_of_fold import folds_of, out_of_fold_probabilities
from tda.debiasing.suspicion import SUSPICIONS, Suspects, check_suspicions, neighbour_disagreement, self_influences, suspicion
from tda.debiasing.training_history import forgetting, training_history
from tda.methods.registry import load_method
from tda.models.model_state import write_state
from tda.system.errors import UserError
from tda.training.ensembles import seed_run
from tda.training.evaluation import evaluate, logits_of_split
from tda.training.many_models import train_many


@pytest.fixture
def suspects(ensemble: Ensemble) -> Suspects:
    last = ensemble.study.plan.kept_epochs[-1]
    return Suspects(ensemble.study, [ensemble.members(last, seed_id=seed_id)[0] for seed_id in (0, 1)], 2)


def test_every_suspicion_has_a_number_for_each_seed_and_example(suspects: Suspects):
    for name in SUSPICIONS:
        if name != "cleanlab":
            values = suspicion(suspects, name)
            assert values.shape == (2, 6) and np.isfinite(values).all(), name


def test_loss_margin_and_gradient_are_those_of_the_member(suspects: Suspects):
    found = evaluate(suspects.members[1].model, suspects.members[1].objective, suspects.train)
    np.testing.assert_allclose(suspicion(suspects, "loss")[1], found.losses, rtol=1e-6)
    np.testing.assert_allclose(suspicion(suspects, "margin")[1], -found.margins, rtol=1e-6)
    squared = self_influences(suspects, load_method("grad_dot"))
    np.testing.assert_allclose(suspicion(suspects, "gradient_norm") ** 2, squared, rtol=1e-4)


def test_neighbours_are_others_by_cosine():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [9.0, -0.5]])
    labels = torch.tensor([0, 0, 1, 0, 1])
    assert neighbour_disagreement(rows, labels, 1).tolist() == [1, 0, 1, 1, 1]
    assert neighbour_disagreement(rows, labels, 50).tolist() == [0.5, 0.5, 0.75, 0.5, 0.75]


def test_forgetting_counts_falls_and_never_learned():
    right = np.array([[0, 1, 1, 0], [1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 1, 0]], dtype=bool)
    assert forgetting(right).tolist() == [1, 2, 0, 4]


def test_history_is_that_of_the_members_own_training(ensemble: Ensemble):
    study = replace(ensemble.study, train=ensemble.study.train)
    _, margins = training_history(study, [1])
    model, train = study.new_model(), study.inputs(study.train)
    runs = [seed_run(study, study.seed(1), epochs=range(1, study.plan.epochs + 1))]
    ((_, snapshots),) = train_many(model, study.plan, study.task.objective, runs, train, evaluate_on=train)
    expected = -torch.stack([snapshot.evaluation.margins for snapshot in snapshots]).double().mean(dim=0)
    np.testing.assert_allclose(margins[0], expected, rtol=1e-5)
    (member,) = ensemble.members(study.plan.epochs, seed_id=1)
    last = evaluate(member.model, study.task.objective, train).margins
    torch.testing.assert_close(snapshots[-1].evaluation.margins, last, rtol=1e-4, atol=1e-4)


def test_folds_hold_every_class_evenly():
    labels = torch.arange(3).repeat_interleave(20)
    folds = folds_of(labels, 5, seed=4)
    assert torch.equal(folds, folds_of(labels, 5, seed=4)) and not torch.equal(folds, folds_of(labels, 5, seed=5))
    for label in range(3):
        assert folds[labels == label].bincount().tolist() == [4] * 5


def test_out_of_fold_probabilities_are_of_models_that_never_saw_the_example(ensemble: Ensemble):
    study = ensemble.study
    found = out_of_fold_probabilities(study, [2], 2)
    np.testing.assert_allclose(found.sum(axis=2), 1)
    folds = folds_of(study.train.labels, 2, study.seed(2))
    model, train = study.new_model(), study.inputs(study.train)
    for fold in range(2):
        run = seed_run(study, study.seed(2), (folds != fold).float(), [study.plan.epochs])
        ((_, (snapshot,)),) = train_many(model, study.plan, study.task.objective, [run], train, keep_states=True)
        write_state(snapshot.state, model)
        expected = functional.softmax(logits_of_split(model.eval(), train)[:, :3].double(), dim=1)
        held_out = (folds == fold).numpy()
        np.testing.assert_allclose(found[0][held_out], expected.numpy()[held_out], rtol=1e-4)
    for count in (1, 7):
        with pytest.raises(UserError, match=f"--folds must lie in 2 to 6, the number of training examples, not {count}"):
            out_of_fold_probabilities(study, [0], count)


def test_confident_learning_is_cleanlabs():
    pytest.importorskip("cleanlab", reason="the optional package cleanlab is not installed")
    from cleanlab.rank import get_label_quality_scores

    generator = np.random.default_rng(0)
    probabilities, labels = generator.dirichlet(np.ones(3), size=30), np.arange(30) % 3
    own = 1 - get_label_quality_scores(labels, probabilities, method="self_confidence", adjust_pred_probs=True)
    np.testing.assert_allclose(adjusted_suspicion(labels, probabilities), own)


def test_unknown_names_and_a_missing_package_are_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="unknown suspicion doubt; known ones are loss, margin"):
        check_suspicions(["loss", "doubt"])
    monkeypatch.setattr(confident_learning.importlib.util, "find_spec", lambda name: None)
    check_suspicions(["loss"])
    with pytest.raises(UserError, match="needs the package cleanlab: run pip install -r req-debiasing.txt"):
        check_suspicions(["loss", "cleanlab"])
