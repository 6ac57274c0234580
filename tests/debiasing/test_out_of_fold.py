"""Folds, probabilities of models that did not see an example, and cleanlab's verdict on them."""

import importlib.util

import numpy as np
import pytest
import torch
from conftest import Ensemble
from torch.nn import functional

from tda.debiasing.confident_learning import label_issues, label_quality, require_cleanlab
from tda.debiasing.out_of_fold import fold_numbers, out_of_fold_probabilities
from tda.system.errors import UserError
from tda.training.retrained_logits import ChangedTraining, LogitStore


def test_folds_hold_equally_many_of_each_class():
    labels = np.array([0] * 13 + [1] * 9 + [2] * 4)
    folds = fold_numbers(labels, 4, draw=0)
    for label in range(3):
        counts = np.bincount(folds[labels == label], minlength=4)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 1
    assert folds.tolist() != fold_numbers(labels, 4, draw=1).tolist()


def test_probabilities_are_of_models_without_the_example_s_fold(ensemble: Ensemble):
    study, seeds = ensemble.study, (5, 6)
    found = out_of_fold_probabilities(study, 3, seeds, force=False, again="")
    labels = study.train.labels.numpy()
    expected = np.zeros((6, 3))
    for number, seed in enumerate(seeds):
        folds = fold_numbers(labels, 3, number)
        for example in range(6):
            others = torch.from_numpy(np.flatnonzero(folds != folds[example]))
            logits = LogitStore(study, study.train).load([ChangedTraining(others, seed)], "")[0, example, :3]
            expected[example] += functional.softmax(logits.double(), dim=0).numpy() / 2
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_without_cleanlab_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package cleanlab, which is not installed"):
        require_cleanlab()


def test_a_label_that_no_model_believes_is_an_issue():
    pytest.importorskip("cleanlab")
    labels = np.arange(60) % 3
    probabilities = np.full((60, 3), 0.05)
    probabilities[np.arange(60), labels] = 0.9
    labels[[7, 20]] = (labels[[7, 20]] + 1) % 3
    quality = label_quality(labels, probabilities)
    np.testing.assert_allclose(quality, probabilities[np.arange(60), labels])
    assert np.flatnonzero(label_issues(labels, probabilities)).tolist() == [7, 20]
