"""What is said of every test and of every training example: how reliably it is explained, and whether its label looks wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tda.report.members import Opinions
from tda.statistics.pair_statistics import (
    SIGNIFICANCE_LEVEL,
    PairStatistics,
    mean_and_std,
    signal_to_noise,
    t_test,
)


@dataclass(frozen=True)
class MethodSays:
    """What one method says of each example, at its largest number of checkpoints.

    helpful: whether positive means helpful (else: alike); varies: whether its scores differ from seed to seed at all; where
    they do not, seeds tell nothing from noise, and no pair counts as reliable. share_by_test: of reliable pairs (n_test,);
    helped, harmed: of how many test examples each training example (n_train,) reliably lowers, or raises, the loss; own_class,
    own_class_p: the mean score (n_train,) over test examples of its own class, and the p-value of the t-test over seeds that
    it is 0; None where examples have no classes. ranks: centred and scaled ranks of the mean scores within each test example
    (n_train, n_test) float32, of which a product's mean is a rank correlation.
    """

    method: str
    helpful: bool
    varies: bool
    share_by_test: np.ndarray
    helped: np.ndarray
    harmed: np.ndarray
    own_class: np.ndarray | None
    own_class_p: np.ndarray | None
    ranks: np.ndarray


def method_says(
    sample: np.ndarray, statistics: PairStatistics, helpful: bool, train_labels: np.ndarray, test_labels: np.ndarray
) -> MethodSays:
    """The same from the seeds' scores (S, n_train, n_test) and their statistics; labels: of classes where they are (n,)."""
    varies, mean = bool((statistics.std > 0).any()), statistics.mean
    reliable = (statistics.q_value < SIGNIFICANCE_LEVEL) & varies
    own = _own_class(sample, train_labels, test_labels) if train_labels.ndim == 1 else (None, None)
    helped, harmed = ((reliable & side).sum(axis=1) for side in (mean > 0, mean < 0))
    return MethodSays(statistics.method, helpful, varies, reliable.mean(axis=0), helped, harmed, *own, scaled_ranks(mean))


def _own_class(sample: np.ndarray, train_labels: np.ndarray, test_labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds of an example's mean score for its class, and its p-value; 0 and 1 where the class is not tested."""
    seeds = np.zeros(sample.shape[:2])
    for label in np.intersect1d(train_labels, test_labels):
        rows, columns = np.flatnonzero(train_labels == label), np.flatnonzero(test_labels == label)
        seeds[:, rows] = sample[:, rows][:, :, columns].mean(axis=2)
    mean, std = mean_and_std(seeds)
    return mean, t_test(signal_to_noise(mean, std), len(seeds))


def scaled_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of each column (ties by position), less their mean, over their root of the mean square; 0 for a single row."""
    ranks = np.argsort(np.argsort(values, axis=0, kind="stable"), axis=0, kind="stable").astype(np.float32)
    ranks -= (len(values) - 1) / 2
    size = np.sqrt((len(values) ** 2 - 1) / 12)
    return ranks / np.float32(size) if size > 0 else ranks


def disagreement(methods: Sequence[MethodSays]) -> np.ndarray:
    """1 less the mean rank correlation of two methods within each test example (n_test,), of those alike in sign; from 0 to 2.

    0 where fewer than two methods of one meaning of the sign are there.
    """
    ranks = [method.ranks for method in methods if method.helpful] or [method.ranks for method in methods]
    count = len(ranks)
    if count < 2:
        return np.zeros(methods[0].ranks.shape[1])
    total = sum(ranks)
    # The square of a sum holds every product of two twice, and every square once.
    products = (total.astype(np.float64) ** 2).mean(axis=0) - sum((rank.astype(np.float64) ** 2).mean(axis=0) for rank in ranks)
    return 1 - products / (count * (count - 1))


def looks_mislabelled(opinions: Opinions, methods: Sequence[MethodSays]) -> tuple[np.ndarray, np.ndarray]:
    """Whether (n_train,) bool a training label looks wrong, and by how many methods it harms its own class.

    It does if most seeds, which were trained on it, predict another label all the same, or if by most methods of which positive
    means helpful its mean score for the test examples of its own class is below 0,
    p < 0.05. Where examples have no classes, no label does.
    """
    if opinions.predicted is None:
        return np.zeros(len(opinions.wrong), dtype=bool), np.zeros(len(opinions.wrong), dtype=np.int64)
    judges = [
        (method.own_class < 0) & (method.own_class_p < SIGNIFICANCE_LEVEL)
        for method in methods
        if method.helpful and method.own_class is not None
    ]
    harms = np.sum(judges, axis=0) if judges else np.zeros(len(opinions.wrong), dtype=np.int64)
    return opinions.wrong | (2 * harms > len(judges)), harms


def median_correlation(matrix: Mapping[str, Sequence[Sequence[float | None]]] | None) -> float | None:
    """The median of a matrix of correlations over pairs of different methods; None without two methods."""
    if matrix is None:
        return None
    values = np.array(matrix["values"], dtype=float)
    above = values[np.triu_indices(len(values), 1)]
    return float(np.nanmedian(above)) if np.isfinite(above).any() else None
