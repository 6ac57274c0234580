"""Brittleness: retrain without the most helpful examples of a test example, and see how far its margin falls."""

from collections.abc import Sequence

import numpy as np
import torch

from tda.statistics.intervals import bootstrap_mean
from tda.system.random_streams import stream, stream_seed
from tda.training.retrainings import Retraining, RetrainingStore, without
from tda.training.runs import Evaluation
from tda.training.study import Study

RANDOM = "random"


def random_ranking(num_train: int, num_test: int) -> np.ndarray:
    """Positions of training examples in random order, another for each test example: (n_train, num_test) int64."""
    orders = [torch.randperm(num_train, generator=stream(test, "random removal")).numpy() for test in range(num_test)]
    return np.stack(orders, axis=1)


def outputs_without(
    study: Study, removals: Sequence[Sequence[int]], num_retrainings: int, force: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Margins and predictions (removals, retrainings, n_test, ...) of models retrained without each set of positions.

    The retrainings that are missing are done, or all of them by force.
    """
    store = RetrainingStore(study)
    retrainings = [
        Retraining(without(len(study.train), removed), stream_seed(number, "removal retraining"))
        for removed in removals
        for number in range(num_retrainings)
    ]
    store.fill(retrainings, "removal retraining", force)
    found: Evaluation = store.load(retrainings, "run_removal_evaluation.py again")
    shape = (len(removals), num_retrainings)
    return found.margins.double().unflatten(0, shape).numpy(), found.predictions.unflatten(0, shape).numpy()


def removal_effect(base: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """Mean fall of the margin with its 95 % bootstrap interval over test examples, and the share of predictions that change.

    base: margins and predictions of one removal, of nothing; after: of a removal for each of the first test examples.
    """
    tests = np.arange(len(after[0]))
    falls = (base[0][0][:, tests].swapaxes(0, 1) - after[0][tests, :, tests]).mean(axis=1)
    flips = base[1][0][:, tests].swapaxes(0, 1) != after[1][tests, :, tests]
    estimate = bootstrap_mean(falls)
    return {"margin_fall": estimate.value, "low": estimate.low, "high": estimate.high, "flips": flips.mean()}
