"""Confident learning (Northcutt et al. 2021) by the library cleanlab, which is installed only where it is asked for."""

import importlib.util

import numpy as np

from tda.system.errors import UserError


def require_cleanlab() -> None:
    """Raise UserError where the optional package is missing."""
    if importlib.util.find_spec("cleanlab") is None:
        raise UserError("confident learning needs the package cleanlab: run pip install -r req-debiasing.txt, or leave it out")


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


def adjusted_suspicion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """How suspicious each label (n,) is, in 0 to 1: 1 less its quality, adjusted by each class's mean self-confidence.

    As confident learning compares a probability with the class's own threshold. labels, probabilities: as for label_quality.
    """
    from cleanlab.rank import get_label_quality_scores

    return 1 - get_label_quality_scores(labels, probabilities, method="self_confidence", adjust_pred_probs=True)
