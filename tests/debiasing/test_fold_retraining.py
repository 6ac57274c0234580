"""Folds, probabilities of models that did not see an example, and cleanlab's verdict on them."""

import numpy as np
import pytest
import torch
from conftest import Ensemble
from torch.nn import functional

from tda.debiasing.confident_learning import label_issues, label_quality
from tda.debiasing.fold_retraining import kept_probabilities
from tda.debiasing.out_of_fold import folds_of
from tda.training.retrained_logits import ChangedTraining, LogitStore


def test_probabilities_are_of_models_without_the_example_s_fold(ensemble: Ensemble):
    study, seeds = ensemble.study, (5, 6)
    found = kept_probabilities(study, 3, seeds, force=False, again="")
    expected = np.zeros((6, 3))
    for seed in seeds:
        folds = folds_of(study.train.labels, 3, seed).numpy()
        for example in range(6):
            others = torch.from_numpy(np.flatnonzero(folds != folds[example]))
            logits = LogitStore(study, study.train).load([ChangedTraining(others, seed)], "")[0, example, :3]
            expected[example] += functional.softmax(logits.double(), dim=0).numpy() / 2
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_a_label_that_no_model_believes_is_an_issue():
    pytest.importorskip("cleanlab")
    labels = np.arange(60) % 3
    probabilities = np.full((60, 3), 0.05)
    probabilities[np.arange(60), labels] = 0.9
    labels[[7, 20]] = (labels[[7, 20]] + 1) % 3
    quality = label_quality(labels, probabilities)
    np.testing.assert_allclose(quality, probabilities[np.arange(60), labels])
    assert np.flatnonzero(label_issues(labels, probabilities)).tolist() == [7, 20]
