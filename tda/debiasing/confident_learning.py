"""Confident learning (Northcutt et al. 2021) by the library cleanlab, which is installed only where it is asked for."""

import numpy as np


def label_quality(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """How well a label fits its example, (n,) from 0 to 1: cleanlab's self-confidence, its out-of-fold probability.

    labels: (n,) int64 from 0; probabilities: (n, C), rows sum to 1, of models that did not see the example.
    """
    from cleanlab.rank import get_label_quality_scores

    return np.asarray(get_label_quality_scores(labels, probabilities, method="self_confidence"))


def label_issues(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Which labels confident learning holds to be wrong, (n,) bool, by its default rule: pruned by the rate of noise."""
    from cleanlab.filter import find_label_issues

    return np.asarray(find_label_issues(labels, probabilities, n_jobs=1), dtype=bool)
