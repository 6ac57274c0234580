"""Do scores point at the right examples? Average precision, precision at a count, shares and overlaps of the highest."""

import numpy as np
from scipy.stats import rankdata


def average_precision(values: np.ndarray, positive: np.ndarray) -> float:
    """Mean over the positives (n,) bool of the share of positives among the values (n,) that are at least as high.

    The share of positives by guessing, 1 at best. NaN without a positive.
    """
    order = np.argsort(-values, kind="stable")
    found, hits = values[order], np.asarray(positive, dtype=bool)[order]
    # Of equal values all are taken together: up to the last of them.
    last = np.searchsorted(-found, -found, side="right")
    precision = np.cumsum(hits)[last - 1] / last
    return float(precision[hits].mean()) if hits.any() else float("nan")


def precision_at_count(values: np.ndarray, positive: np.ndarray) -> float:
    """Share of positives (n,) bool among as many of the highest values (n,) as there are positives.

    Of values that are equal at the border, the expected share counts. NaN without a positive.
    """
    positive = np.asarray(positive, dtype=bool)
    count = int(positive.sum())
    if count == 0:
        return float("nan")
    border = np.sort(values)[-count]
    above, at_border = values > border, values == border
    at_border_taken = count - above.sum()
    return float((positive[above].sum() + at_border_taken * positive[at_border].mean()) / count)


def highest(scores: np.ndarray, count: int) -> np.ndarray:
    """Positions (..., count, n_test) of the highest training examples for each test example, of scores (..., n_train, n_test).

    Of equal scores the first training example is taken.
    """
    return np.argsort(-scores, axis=-2, kind="stable")[..., :count, :]


def share_alike(scores: np.ndarray, count: int, train_kinds: np.ndarray, test_kinds: np.ndarray) -> float:
    """Share of the `count` highest training examples of a test example, scores (n_train, n_test), that are of its kind.

    train_kinds (n_train,), test_kinds (n_test,): classes, groups or sources. The mean over test examples.
    """
    return float((train_kinds[highest(scores, count)] == test_kinds).mean())


def share_alike_by_chance(train_kinds: np.ndarray, test_kinds: np.ndarray) -> float:
    """The same of training examples that are drawn at random."""
    return float((train_kinds[:, None] == test_kinds).mean())


def overlaps(scores: np.ndarray, count: int) -> np.ndarray:
    """Jaccard indices (seeds, seeds) of the `count` highest of two seeds, of scores (seeds, n_train, n_test).

    The mean over test examples of how many both name, over how many either names.
    """
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, highest(scores, count), True, axis=-2)
    both = np.einsum("ict,jct->ijt", chosen.astype(np.float32), chosen.astype(np.float32))
    return (both / (2 * count - both)).mean(axis=-1, dtype=np.float64)


def overlap_by_chance(num_train: int, count: int) -> float:
    """The Jaccard index of two random choices of `count` among `num_train`: of their expected intersection."""
    both = count**2 / num_train
    return both / (2 * count - both)


def mean_rank_correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Spearman's correlation over training examples, (n_train, n_test) each, a mean over test examples.

    A test example for which either is constant counts as 0.
    """
    ranks = [rankdata(scores, axis=0) for scores in (left, right)]
    centred = [rank - rank.mean(axis=0) for rank in ranks]
    lengths = np.prod([np.linalg.norm(rank, axis=0) for rank in centred], axis=0)
    products = (centred[0] * centred[1]).sum(axis=0)
    return float(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0).mean())


def mean_rank_correlation_of_kind(
    left: np.ndarray, right: np.ndarray, train_kinds: np.ndarray, test_kinds: np.ndarray
) -> float:
    """The same over those training examples alone that are of the test example's kind, such as its class.

    What a score knows of classes, which the labels tell without any model, does not count in it. NaN where no kind of a test
    example has two training examples.
    """
    found, counts = [], []
    for kind in np.unique(test_kinds):
        rows, columns = train_kinds == kind, test_kinds == kind
        if rows.sum() > 1:
            found.append(mean_rank_correlation(left[rows][:, columns], right[rows][:, columns]))
            counts.append(columns.sum())
    return float(np.average(found, weights=counts)) if found else float("nan")
