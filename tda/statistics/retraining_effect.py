"""What retrainings on random subsets say of each training example."""

import numpy as np


def mean_with_minus_without(masks: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """For masks (S, n) and outputs (S, n_test), the mean output of subsets with each example minus that of those without.

    (n, n_test) float64; 0 for an example that is in all subsets or in none.
    """
    inside = masks.astype(np.float64)
    count = inside.sum(axis=0)[:, None]
    total = inside.T @ outputs
    split = (count > 0) & (count < len(masks))
    within = np.divide(total, count, out=np.zeros_like(total), where=split)
    without = np.divide(outputs.sum(axis=0) - total, len(masks) - count, out=np.zeros_like(total), where=split)
    return within - without
