"""The linear datamodeling score (Park et al. 2023): do summed scores rank subsets of the training set as retraining does?

For one test example, the prediction for a subset is the sum of the scores of its training examples; the score is Spearman's
correlation, over subsets, between predictions and what models retrained on the subsets say.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from tda.statistics.intervals import Estimate, percentiles

DRAWS = 200
_BOOTSTRAP_SEED = 0


def predictions(masks: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Sums of the scores (n_train, n_test) of each subset's examples, for masks (S, n_train): (S, n_test) float64."""
    return masks.astype(np.float64) @ scores


def lds_of_each(predicted: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Spearman correlation over subsets, for each test example: (S, n_test), (S, n_test) -> (n_test,).

    outputs: what grows when helpful examples are added, such as margins. Where either does not vary over the subsets, nothing
    is predicted and the score is 0.
    """
    return _pearson(rankdata(predicted, axis=0), rankdata(outputs, axis=0), np.ones(len(outputs)))


def lds(predicted: Sequence[np.ndarray], outputs: np.ndarray, draws: int = DRAWS) -> Estimate:
    """Mean over test examples and over several predictions of the same outputs, with an interval.

    A draw of the bootstrap resamples subsets and test examples, with replacement, the same for all predictions. Its ranks
    treat equal values as ordered, which moves nothing but the interval, and that where scores are exactly equal. Subsets
    drawn more than once lower a rank correlation (by 0.005 for a hundred), which is no error of the estimate, so that the
    interval is the draws' quantiles moved by the distance of their mean from the estimate.
    """
    mean = float(np.mean([lds_of_each(one, outputs) for one in predicted]))
    generator = np.random.default_rng(_BOOTSTRAP_SEED)
    order, *orders = (np.argsort(values, axis=0, kind="stable") for values in (outputs, *predicted))
    varies = [np.ptp(one, axis=0) > 0 for one in predicted]
    found = []
    for _ in range(draws):
        counts = np.bincount(generator.integers(len(outputs), size=len(outputs)), minlength=len(outputs)).astype(float)
        drawn = generator.integers(outputs.shape[1], size=outputs.shape[1])
        ranks = _resampled_ranks(order, counts)
        pairs = zip(orders, varies, strict=True)
        found.append(np.mean([(_pearson(_resampled_ranks(one, counts), ranks, counts) * kept)[drawn] for one, kept in pairs]))
    return percentiles(mean, found, centred=True)


def retraining_agreement(outputs: np.ndarray, draws: int = DRAWS) -> Estimate | None:
    """LDS between the means of two halves of the retrainings (R, S, n_test); None for a single retraining.

    No bound: both halves are noisy, and a prediction that has less noise can be above it (noise_ceiling).
    """
    half = len(outputs) // 2
    return lds([outputs[:half].mean(axis=0)], outputs[half : 2 * half].mean(axis=0), draws) if half else None


def noise_ceiling(agreement: Estimate, times: float) -> Estimate:
    """What an exact prediction, the expected outputs, would reach against a mean of retrainings.

    agreement: the LDS r between two means of equally many retrainings; times: how often as many the predicted mean is of. Its
    reliability is times r / (1 + (times - 1) r) (Spearman and Brown 1910), its correlation with what it is expected to be the
    root of that (Spearman 1904). So it is for products of moments, one test example and noise that is alike on all subsets. Of
    ranks it is near that, and the mean over test examples of unlike r lies below it: the ceiling is rather too high. 0 where
    r is below 0.
    """
    reliable = [max(end, 0.0) for end in (agreement.value, agreement.low, agreement.high)]
    return Estimate(*(float(np.sqrt(times * end / (1 + (times - 1) * end))) for end in reliable))


def _resampled_ranks(order: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mid-ranks (S, n_test) in the sample in which subset s occurs counts[s] times, from the order of the original one."""
    sorted_counts = counts[order]
    ranks = np.empty(order.shape)
    np.put_along_axis(ranks, order, sorted_counts.cumsum(axis=0) - sorted_counts / 2, axis=0)
    return ranks


def _pearson(left: np.ndarray, right: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Correlation of each column, row s counted counts[s] times; 0 for a constant column."""
    left = left - counts @ left / counts.sum()
    right = right - counts @ right / counts.sum()
    sizes = np.sqrt((counts @ left**2) * (counts @ right**2))
    return np.divide(counts @ (left * right), sizes, out=np.zeros(left.shape[1]), where=sizes > 0)
