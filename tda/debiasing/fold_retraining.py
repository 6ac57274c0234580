"""Out-of-fold probabilities of trainings that are kept: models trained on the other folds alone, as on any changed data.

Those of out_of_fold.py are of the members' own runs without the loss terms of a fold, and not kept.
"""

from collections.abc import Sequence

import numpy as np
import torch

from tda.debiasing.out_of_fold import folds_of
from tda.statistics.prediction_metrics import log_probabilities
from tda.training.retrained_logits import ChangedTraining, LogitStore
from tda.training.study import Study


def fold_trainings(labels: np.ndarray, num_folds: int, seeds: Sequence[int]) -> tuple[np.ndarray, list[ChangedTraining]]:
    """Folds (seeds, n), another division for each seed, and the trainings without each: all of a seed, then of the next."""
    folds = np.stack([folds_of(torch.from_numpy(labels), num_folds, seed).numpy() for seed in seeds])
    trainings = [
        ChangedTraining(torch.from_numpy(np.flatnonzero(folds[number] != fold)), seed)
        for number, seed in enumerate(seeds)
        for fold in range(num_folds)
    ]
    return folds, trainings


def kept_probabilities(study: Study, num_folds: int, seeds: Sequence[int], force: bool, again: str) -> np.ndarray:
    """Probabilities (n_train, classes) float64 of the task's classes, of models trained without the example's fold.

    Means over the seeds, each of which divides the training set anew. What a model gives to logits that are none of the task's
    classes is left out, and rows sum to 1. The trainings that are missing are done, or all by force.
    """
    labels, num_classes = study.train.labels.numpy(), len(study.task.classes)
    folds, trainings = fold_trainings(labels, num_folds, seeds)
    store = LogitStore(study, study.train)
    store.fill(trainings, "out-of-fold training", force)
    logits = store.load(trainings, again).unflatten(0, (len(seeds), num_folds)).numpy()
    of_own_fold = np.take_along_axis(logits, folds[:, None, :, None], axis=1)[:, 0, :, :num_classes]
    return np.exp(log_probabilities(of_own_fold)).mean(axis=0)
