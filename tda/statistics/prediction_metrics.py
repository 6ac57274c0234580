"""How good a model's probabilities are on labelled examples, and on the groups that the examples form."""

import numpy as np

from tda.statistics.group_alignment import group_means

CALIBRATION_BINS = 15


def expected_calibration_error(confidences: np.ndarray, correct: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Mean distance between confidence and accuracy, from 0 to 1, over bins of equal width weighted by their examples.

    confidences: (n,) probability of the predicted class; correct: (n,) whether the prediction is right. Naeini et al. 2015;
    Guo et al. 2017, equation 3. A bin holds its upper end.
    """
    confidences, correct = (np.asarray(values, dtype=np.float64) for values in (confidences, correct))
    places = np.clip(np.ceil(confidences * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(places, weights=confidences - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidences))


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the softmax over the last axis, float64."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def losses_of(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy (..., n) float64 in nats of logits (..., n, C) and labels (n,)."""
    places = np.broadcast_to(labels, logits.shape[:-1])[..., None]
    return -np.take_along_axis(log_probabilities(logits), places, axis=-1)[..., 0]


def prediction_metrics(logits: np.ndarray, labels: np.ndarray, codes: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """What one model's logits (n, C) say of labels (n,): the metrics by which trainings are compared.

    codes: (n,) int64, groups; target: (n,) bool, the examples that matter. accuracy; worst_group_accuracy: the smallest mean
    of a group; target_accuracy: over the examples that matter, NaN without any; loss: mean cross-entropy in nats;
    calibration_error: see expected_calibration_error.
    """
    probabilities = np.exp(log_probabilities(logits))
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    return {
        "accuracy": float(correct.mean()),
        "worst_group_accuracy": float(np.nanmin(group_means(correct, codes))),
        "target_accuracy": float(correct[target].mean()) if target.any() else np.nan,
        "loss": float(losses_of(logits, labels).mean()),
        "calibration_error": expected_calibration_error(probabilities.max(axis=1), correct),
    }
