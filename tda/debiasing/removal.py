"""Brittleness: retrain without the most helpful examples of a test example, and see how far its margin falls."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tda.statistics.intervals import bootstrap_mean, jackknifed, means_without_each
from tda.system.random_streams import stream, stream_seed
from tda.training.retrainings import Retraining, RetrainingStore, without
from tda.training.runs import Evaluation
from tda.training.study import Study

RANDOM = "random"


def random_ranking(num_train: int, num_test: int) -> np.ndarray:
    """Positions of training examples in random order, another for each test example: (n_train, num_test) int64."""
    orders = [torch.randperm(num_train, generator=stream(test, "random removal")).numpy() for test in range(num_test)]
    return np.stack(orders, axis=1)


@dataclass(frozen=True)
class Outputs:
    """margins and losses (removals, retrainings, n_test) float64, predictions (removals, retrainings, n_test, ...) int64.

    counted: (n_test, ...) bool, which of an example's predictions count, where it has several: not those of padding.
    """

    margins: np.ndarray
    losses: np.ndarray
    predictions: np.ndarray
    counted: np.ndarray


def seeds_of_retrainings(num_retrainings: int) -> list[int]:
    """Seeds of retrainings on what is left, which are no member's."""
    return [stream_seed(number, "removal retraining") for number in range(num_retrainings)]


def outputs_without(
    study: Study, removals: Sequence[Sequence[Sequence[int]]], seeds: Sequence[int], same_run: bool, force: bool
) -> Outputs:
    """Outputs of models retrained without sets of positions: removals[k] are those of seeds[k], or removals[0] those of all.

    same_run: whether the seeds are members' whose runs are repeated. The retrainings that are missing are done, or all of them
    by force.
    """
    store = RetrainingStore(study)
    of_seeds = list(removals) * (len(seeds) if len(removals) == 1 else 1)
    retrainings = [
        Retraining(without(len(study.train), removed), seed, same_run)
        for sets in zip(*of_seeds, strict=True)
        for removed, seed in zip(sets, seeds, strict=True)
    ]
    store.fill(retrainings, "removal retraining", force)
    found: Evaluation = store.load(retrainings, "run_removal_evaluation.py again")
    shape = (len(of_seeds[0]), len(seeds))
    margins, losses = (values.double().unflatten(0, shape).numpy() for values in (found.margins, found.losses))
    predictions, labels = found.predictions.unflatten(0, shape).numpy(), study.test.labels.cpu().numpy()
    # Nothing is foretold of a text's first token.
    counted = predictions[0, 0] >= 0
    if labels.shape == counted.shape:
        counted &= labels >= 0
    return Outputs(margins, losses, predictions, counted)


def removal_effect(base: Outputs, after: Outputs) -> dict[str, float]:
    """What removal does, on average: margin_fall, flips (the share of an example's predictions that change), loss_rise in nats.

    low, high: the fall's 95 % bootstrap interval over test examples; loss_rise_low, loss_rise_high: the jackknife's over seeds
    and test examples. base: outputs of one removal, of nothing; after: of a removal for each of the first test examples.
    """
    tests = np.arange(len(after.margins))

    def changes(before: np.ndarray, changed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Before and after, (tests, retrainings, ...), each test example's own removal on itself."""
        return before[0][:, tests].swapaxes(0, 1), changed[tests, :, tests]

    falls = np.subtract(*changes(base.margins, after.margins)).mean(axis=1)
    counted = base.counted[tests].reshape(len(tests), -1)
    flips = np.not_equal(*changes(base.predictions, after.predictions)).reshape(len(tests), -1, counted.shape[1])
    shares = (flips & counted[:, None]).sum(axis=2) / np.maximum(counted.sum(axis=1), 1)[:, None]
    rises = -np.subtract(*changes(base.losses, after.losses))
    fall = bootstrap_mean(falls)
    rise = jackknifed(rises.mean(), *(means_without_each(rises.mean(axis=axis)) for axis in (0, 1)))
    effect = {"margin_fall": fall.value, "low": fall.low, "high": fall.high, "flips": shares.mean()}
    return effect | rise.columns("loss_rise", "loss_rise_low", "loss_rise_high")
