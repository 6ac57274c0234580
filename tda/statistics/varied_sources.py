"""What p-values become where a part of what is random in a training is held: runs that differ in one thing, or in both."""

from collections.abc import Iterator

import numpy as np

from tda.statistics.pair_statistics import SIGNIFICANCE_LEVEL, benjamini_hochberg, mean_and_std, signal_to_noise, t_test

VARIED = ("initialisation", "order", "both")
"""What differs between the runs of a sample."""


def samples(runs: np.ndarray, varied: str) -> Iterator[np.ndarray]:
    """Samples (n, pairs) of a crossed design's runs (starts, orders, pairs), n the smaller number of both.

    initialisation: with each of the orders held; order: with each of the initialisations held; both: each run with a start and
    an order of its own, as in an ordinary ensemble, in n ways that share no run.
    """
    size = min(runs.shape[:2])
    numbers = np.arange(size)
    if varied == "initialisation":
        yield from (runs[:size, held] for held in range(runs.shape[1]))
    elif varied == "order":
        yield from (runs[held, :size] for held in range(runs.shape[0]))
    else:
        yield from (runs[numbers, (numbers + moved) % size] for moved in range(size))


def p_values_where(runs: np.ndarray, varied: str) -> dict[str, float]:
    """What the t-test says of all pairs, mean over the samples: mean p, shares of p and q below the level, as columns.

    mean_p_lowest, mean_p_highest: over the samples. variance: of the runs, mean over pairs, in the square of the scores' unit.
    """
    found = []
    for sample in samples(runs, varied):
        mean, std = mean_and_std(sample)
        p_value = t_test(signal_to_noise(mean, std), len(sample))
        below = (p_value < SIGNIFICANCE_LEVEL).mean(), (benjamini_hochberg(p_value) < SIGNIFICANCE_LEVEL).mean()
        found.append((p_value.mean(), *below, (std**2).mean()))
    mean_p, share_p, share_q, variance = np.mean(found, axis=0)
    lowest, highest = np.min(found, axis=0)[0], np.max(found, axis=0)[0]
    return {
        "mean_p_value": mean_p,
        "mean_p_lowest": lowest,
        "mean_p_highest": highest,
        "share_p_below_level": share_p,
        "share_q_below_level": share_q,
        "variance": variance,
        "samples": len(found),
        "runs": min(runs.shape[:2]),
    }
