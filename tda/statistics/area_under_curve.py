"""The area under the ROC curve: do values tell two groups apart?"""

import numpy as np
from scipy.stats import rankdata


def area_under_curve(values: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Chance (...,) that a positive value is the larger of a pair, ties counting half: 0.5 by guessing, 1 at best.

    values: (..., n), each row judged for itself; positive: (n,) bool, of both kinds. It is the Mann-Whitney statistic
    over the number of pairs.
    """
    positive = np.asarray(positive, dtype=bool)
    ranks = rankdata(values, axis=-1)
    count = int(positive.sum())
    pairs = count * (positive.size - count)
    return (ranks[..., positive].sum(axis=-1) - count * (count + 1) / 2) / pairs
