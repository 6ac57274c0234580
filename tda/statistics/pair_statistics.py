"""Is a score more than noise? Mean, spread and p-values of every (train, test) pair over the seeds of an ensemble.

A score is a random variable over the training randomness (Nguyen, Seo and Oh, NeurIPS 2023, section 3). A seed's score
is the mean over its last checkpoints, which depend on each other; the sample is the seeds, which do not.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from scipy import special

from tda.scores.score_files import Scores
from tda.system.errors import UserError

SIGNIFICANCE_LEVEL = 0.05
FEWEST_SEEDS = 3
_BLOCK_PAIRS = 2**22
"""Pairs whose sample over seeds is held in float64 at once."""


@dataclass(frozen=True)
class PairStatistics:
    """What the seeds of a method say about each pair; every array is (n_train, n_test) float64.

    mean: positive = helpful, in the method's own unit; std: over the seeds, with n - 1, in the same unit.
    signal_to_noise: |mean| / std, without unit. p_value, q_value: of the t-test, without and with correction for the
    number of pairs. single_draw_p_value: whether one seed's score, not the mean, can be told from 0.
    """

    method: str
    num_seeds: int
    num_checkpoints: int
    mean: np.ndarray
    std: np.ndarray
    signal_to_noise: np.ndarray
    p_value: np.ndarray
    q_value: np.ndarray
    single_draw_p_value: np.ndarray


def pair_statistics(scores: Scores, num_checkpoints: int) -> PairStatistics:
    """Statistics of every pair over the seeds, a seed's score being the mean over its last `num_checkpoints` epochs.

    Raises UserError if the method has fewer than three seeds or fewer than `num_checkpoints` epochs.
    """
    require_enough_seeds(scores)
    num_seeds, shape = len(scores.seed_ids), scores.values.shape[2:]
    mean, std = np.empty(shape), np.empty(shape)
    step = max(1, _BLOCK_PAIRS // shape[1])
    for rows in (slice(start, start + step) for start in range(0, shape[0], step)):
        mean[rows], std[rows] = mean_and_std(seed_scores(scores, num_checkpoints, rows))
    ratio = signal_to_noise(mean, std)
    p_value = t_test(ratio, num_seeds)
    return PairStatistics(
        scores.method, num_seeds, num_checkpoints, mean, std, ratio, p_value, benjamini_hochberg(p_value), single_draw(ratio)
    )


def kept_on_disk(statistics: PairStatistics, folder: Path) -> PairStatistics:
    """The same with every array as a float32 file of the folder, read where it is looked at."""
    arrays = {each.name: getattr(statistics, each.name) for each in fields(statistics)}
    mapped = {}
    for name, array in arrays.items():
        if isinstance(array, np.ndarray):
            path = folder / f"{statistics.method}_{name}.npy"
            np.save(path, array.astype(np.float32))
            mapped[name] = np.load(path, mmap_mode="r")
    return replace(statistics, **mapped)


def require_enough_seeds(scores: Scores) -> None:
    """Raise UserError if a method has fewer than three seeds."""
    if len(scores.seed_ids) < FEWEST_SEEDS:
        raise UserError(
            f"method {scores.method} has scores of {len(scores.seed_ids)} seeds, but a p-value needs at least {FEWEST_SEEDS}; "
            f"run its script for more seeds"
        )


def seed_scores(scores: Scores, num_checkpoints: int, rows: slice = slice(None)) -> np.ndarray:
    """The sample (seeds, n_train, n_test) float64: each seed's mean over its last `num_checkpoints` epochs.

    rows: of which training examples, by default of all.
    Raises UserError if there are fewer epochs, or if the number is below 1.
    """
    if not 1 <= num_checkpoints <= len(scores.epochs):
        raise UserError(
            f"cannot average {num_checkpoints} checkpoints: method {scores.method} has scores of {len(scores.epochs)}; "
            f"choose a number from 1 to {len(scores.epochs)}"
        )
    return scores.values[:, -num_checkpoints:, rows].mean(axis=1, dtype=np.float64)


def mean_and_std(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (with n - 1) over the first axis, which must hold at least two seeds."""
    constant = (sample == sample[0]).all(axis=0)
    # The sum of equal numbers is rounded, which would leave a spread of 1e-17 where there is none.
    mean = np.where(constant, sample[0], sample.mean(axis=0))
    std = np.where(constant, 0.0, sample.std(axis=0, ddof=1))
    return mean, std


def signal_to_noise(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """|mean| / std of each pair; without any spread 0 where the mean is 0, else infinity."""
    ratio = np.where(mean == 0, 0.0, np.inf)
    return np.divide(np.abs(mean), std, out=ratio, where=std > 0)


def t_test(ratio: np.ndarray, num_seeds: int) -> np.ndarray:
    """Two-sided p-values of Student's one-sample t-test of mean 0, with num_seeds - 1 degrees of freedom.

    `ratio` is |mean| / std over the seeds: a pair without spread gets 1 where its mean is 0, else 0.
    """
    return 2 * special.stdtr(num_seeds - 1, -np.sqrt(num_seeds) * ratio)


def single_draw(ratio: np.ndarray) -> np.ndarray:
    """Two-sided p-values 2 Phi(-|mean / std|) of Nguyen, Seo and Oh (2023), which do not shrink with more seeds.

    They ask whether one seed's score is far from 0. Under pure noise they are not uniform: the mean for 10 seeds is 0.789.
    """
    return 2 * special.ndtr(-ratio)


def benjamini_hochberg(p_value: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's (1995) q-values over all pairs together, in the shape of `p_value`.

    Of the pairs with q below a level, at most that share is expected to be noise.
    """
    # As scipy.stats.false_discovery_control, to the bit; importing scipy.stats would take longer than the work itself.
    flat = p_value.ravel()
    order = np.argsort(flat)
    sorted_q = flat[order] * (flat.size / np.arange(1, flat.size + 1, dtype=np.float64))
    np.minimum.accumulate(sorted_q[::-1], out=sorted_q[::-1])
    q_value = np.empty_like(flat)
    q_value[order] = sorted_q
    return np.clip(q_value, 0, 1).reshape(p_value.shape)
