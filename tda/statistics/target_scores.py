"""What a method's scores say of a few targets: of the ensemble, over seeds, and whether they can be told from noise."""

from dataclasses import dataclass

import numpy as np

from tda.scores.ensemble_scores import ensemble_scores
from tda.scores.score_files import Scores
from tda.statistics.pair_statistics import FEWEST_SEEDS, pair_statistics


@dataclass(frozen=True)
class TargetScores:
    """A method's scores for T targets, each (n_train, T) float64.

    scores: of the ensemble, by which training examples are ranked; mean, std: over seeds, std NaN for a single one; q: over
    all pairs of the experiment, NaN where there are too few seeds or every seed has the same score, as of methods that see no
    model.
    """

    method: str
    scores: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    q: np.ndarray

    def significant(self, level: float) -> np.ndarray:
        """Which training examples help significantly, (n_train, T) bool."""
        return (self.q < level) & (self.mean > 0)


def target_scores(scores: Scores, targets: np.ndarray, num_checkpoints: int) -> TargetScores:
    """What a method's scores say of test examples at these positions (T,)."""
    kept = min(num_checkpoints, len(scores.epochs))
    ranked = ensemble_scores(scores, kept)[:, targets]
    sample = scores.values[:, -kept:, :, targets].mean(axis=1, dtype=np.float64)
    std = sample.std(axis=0, ddof=1) if len(sample) > 1 else np.full(ranked.shape, np.nan)
    q = np.full(ranked.shape, np.nan)
    if len(sample) >= FEWEST_SEEDS and (sample != sample[0]).any():
        q = pair_statistics(scores, kept).q_value[:, targets]
    return TargetScores(scores.method, ranked, sample.mean(axis=0), std, q)
