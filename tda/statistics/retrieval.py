"""How high a ranking puts what it should find: mean reciprocal rank and recall, of columns of scores."""

import numpy as np


def reciprocal_ranks(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """1 / the place of the first relevant row, (F,) in (0, 1], of scores (n, F) and relevant (n, F) bool, the largest first.

    Rows of equal score share the mean of 1 / place over all orders in which they could stand, so that a method that cannot tell
    texts apart gains nothing by their order. A column without a relevant row has 0.
    """
    return np.array([_reciprocal_rank(*column) for column in zip(scores.T, relevant.T, strict=True)])


def recalls(scores: np.ndarray, relevant: np.ndarray, count: int) -> np.ndarray:
    """The share (F,) of relevant rows among the `count` first, of as many as could stand there; ties as above, on average.

    A column without a relevant row has 0.
    """
    return np.array([_recall(*column, count) for column in zip(scores.T, relevant.T, strict=True)])


def _reciprocal_rank(scores: np.ndarray, relevant: np.ndarray) -> float:
    if not relevant.any():
        return 0.0
    best = scores[relevant].max()
    above = int((scores > best).sum())
    tied, right = int((scores == best).sum()), int((relevant & (scores == best)).sum())
    # Of `tied` rows in random order, the chance that the first relevant one is the k-th.
    expected, left = 0.0, 1.0
    for place in range(tied - right + 1):
        here = right / (tied - place)
        expected += left * here / (above + place + 1)
        left *= 1 - here
    return expected


def _recall(scores: np.ndarray, relevant: np.ndarray, count: int) -> float:
    total = int(relevant.sum())
    if not total or not count:
        return 0.0
    edge = np.sort(scores)[::-1][min(count, len(scores)) - 1]
    above, tied = scores > edge, scores == edge
    share = (min(count, len(scores)) - above.sum()) / tied.sum()
    return float(((relevant & above).sum() + share * (relevant & tied).sum()) / min(total, count))
