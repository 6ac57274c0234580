"""How good models are on the part of the test subset that no choice has seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from tda.debiasing.changes import Change, Metrics, TrainingData, trainings_of
from tda.statistics.prediction_metrics import prediction_metrics
from tda.training.retrained_logits import LogitStore


@dataclass(frozen=True)
class Judge:
    """The m examples to report on.

    positions: in the test split; labels (m,) int64; codes (m,) int64 of their groups; target (m,) bool, those that matter.
    """

    positions: np.ndarray
    labels: np.ndarray
    codes: np.ndarray
    target: np.ndarray

    def metrics(self, logits: np.ndarray) -> Metrics:
        """Metrics (seeds,) of logits (seeds, draws, n_test, C), means over the draws."""
        found = [
            [prediction_metrics(drawn[self.positions], self.labels, self.codes, self.target) for drawn in of_seed]
            for of_seed in logits
        ]
        return {name: np.array([np.mean([one[name] for one in of_seed]) for of_seed in found]) for name in found[0][0]}


def retrained_metrics(
    store: LogitStore,
    judge: Judge,
    changes: Sequence[Change],
    data: TrainingData,
    seeds: Sequence[int],
    force: bool,
    again: str,
) -> list[Metrics]:
    """Train on every changed training set, as far as that was not done before, and judge each change.

    again: the command that makes what is missing.
    """
    trainings = [trainings_of(change, data, seeds) for change in changes]
    store.fill([training for of_change in trainings for training in of_change], "retraining", force)
    found = []
    for of_change in tqdm(trainings, desc="judging", delay=2):
        logits = store.load(of_change, again).numpy()
        found.append(judge.metrics(logits.reshape(len(seeds), -1, *logits.shape[1:])))
    return found
