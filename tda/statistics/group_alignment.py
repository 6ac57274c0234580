"""How far a training example helps the test examples that matter: group alignment of D3M, and groups where none are known.

D3M (Jain et al., "Improving Subgroup Robustness via Data Selection", NeurIPS 2024) smooths the loss of the worst group to the
logarithm of the sum over groups of exp(group loss). Its first-order change by removing a training example is the example's
mean score towards each group, weighted by exp(group loss): the group alignment. Examples with a negative one are those to
remove.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from tda.statistics.pair_statistics import benjamini_hochberg, mean_and_std, signal_to_noise, t_test


def group_codes(groups: Sequence[Hashable] | np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names of the groups, sorted, and each example's place among them (m,) int64.

    groups: m words, numbers or booleans, in a list, a tuple, an array or a tensor; a list is as good as an array.
    """
    names, codes = np.unique(np.array([str(group) for group in np.asarray(groups).tolist()], dtype=str), return_inverse=True)
    return names.tolist(), codes.astype(np.int64)


def group_means(values: np.ndarray, codes: np.ndarray, num_groups: int | None = None) -> np.ndarray:
    """Means over the examples of each group: values (..., m) and codes (m,) -> (..., groups) float64; NaN for an empty group.

    num_groups: how many there are, where the last ones may be empty.
    """
    count = int(codes.max()) + 1 if num_groups is None else num_groups
    member = codes[:, None] == np.arange(count)
    sizes = member.sum(axis=0)
    sums = np.asarray(values, dtype=np.float64) @ member.astype(np.float64)
    return np.divide(sums, sizes, out=np.full(sums.shape, np.nan), where=sizes > 0)


def alignment_weights(groups: Sequence[Hashable] | np.ndarray, losses: np.ndarray, beta: float = 1.0) -> np.ndarray:
    """Weights (m,) float64 of test examples, which sum to 1: every group exp(beta * its mean loss), shared by its examples.

    Scores (..., n_train, m) times them are the group alignment (..., n_train); positive = helpful to groups of large loss.
    losses: (m,) in nats. beta 1 is D3M's, 0 counts all groups alike, and a large one only the group of the largest loss. A
    group of any size counts as a whole. Raises ValueError unless there is an example, and a finite loss for each.
    """
    losses = np.asarray(losses, dtype=np.float64)
    _, codes = group_codes(groups)
    if losses.shape != codes.shape or not len(losses) or not np.isfinite(losses).all():
        raise ValueError(f"{len(codes)} groups need as many finite losses, not {losses}")
    exponents = beta * group_means(losses, codes)
    weights = np.exp(exponents - exponents.max())
    return (weights / weights.sum() / np.bincount(codes))[codes]


def pseudo_groups(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Groups (m,) int64 of test examples where none are known, two a class at most: Auto-D3M (Jain et al. 2024).

    scores: (n_train, m); labels: (m,). What a test example owes to the training examples is brought to length 1; of a class's
    test examples the first principal component is taken, and the sign of what each has of it parts the class: 2 * label, or
    2 * label + 1 for the side on which the component's largest entry is positive. As in the published code the component is
    that of centred rows, and the rows themselves are projected on it.
    """
    rows = np.asarray(scores, dtype=np.float64).T
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    found = 2 * np.asarray(labels, dtype=np.int64)
    for label in np.unique(labels):
        (members,) = np.nonzero(labels == label)
        found[members] += rows[members] @ _first_component(rows[members]) > 0
    return found


def _first_component(rows: np.ndarray) -> np.ndarray:
    """First principal component (n,) of rows (k, n), its largest entry positive; 0 where rows do not differ.

    It comes of the smaller of both sides, the products of the rows.
    """
    centred = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    if values[-1] <= len(rows) * np.finfo(np.float64).eps:
        return np.zeros(rows.shape[1])
    component = vectors[:, -1] @ centred / np.sqrt(values[-1])
    return component * np.sign(component[np.abs(component).argmax()])


@dataclass(frozen=True)
class ExampleStatistics:
    """What seeds say of each training example; every array is (n,) float64.

    mean: positive = helpful; std: over the seeds, with n - 1; p_value, q_value: of the t-test of mean 0, without and with
    Benjamini and Hochberg's correction for the number of examples.
    """

    mean: np.ndarray
    std: np.ndarray
    p_value: np.ndarray
    q_value: np.ndarray


def example_statistics(sample: np.ndarray) -> ExampleStatistics:
    """Statistics over seeds of one number an example, (seeds, n); NaN for p and q where there are fewer than two seeds."""
    sample = np.asarray(sample, dtype=np.float64)
    if len(sample) < 2:
        nothing = np.full(sample.shape[1], np.nan)
        return ExampleStatistics(sample[0], nothing, nothing, nothing)
    mean, std = mean_and_std(sample)
    p_value = t_test(signal_to_noise(mean, std), len(sample))
    return ExampleStatistics(mean, std, p_value, benjamini_hochberg(p_value))
