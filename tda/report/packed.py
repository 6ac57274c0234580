"""Typed arrays as text that a page holds: little-endian, in base64, with the least precision that shows the same digits."""

import base64
from dataclasses import dataclass

import numpy as np

from tda.report.sampling import LISTED
from tda.statistics.pair_statistics import PairStatistics

NOBODY = -1
"""A place in a list that no example takes."""
_LARGEST_HALF = 2.0**14
"""Means are scaled by a power of two below this, so that float16 holds them to 11 bits."""
LEAST_Q = 1e-16
"""Smaller q are shown as less than this where a pair is not listed."""
_Q_STEPS = 65535


@dataclass(frozen=True)
class Lists:
    """The most helpful and then the most harmful examples of each of some examples: (n, 2 LISTED) each.

    positions: int32, -1 where fewer are helpful or harmful; mean, std, q: float32; seeds: (n, 2 LISTED, S) int8, a seed's
    score in steps from the mean, of which 127 are the largest distance that S seeds can have, (S - 1) / sqrt(S) times std.
    """

    positions: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    q: np.ndarray
    seeds: np.ndarray

    def bytes_(self) -> bytes:
        """Mean, std, q, positions, seeds, one array after another."""
        parts = (self.mean, self.std, self.q, self.positions, self.seeds)
        types = ("<f4", "<f4", "<f4", "<i4", "i1")
        return b"".join(np.ascontiguousarray(part, dtype=kind).tobytes() for part, kind in zip(parts, types, strict=True))


def lists_of(sample: np.ndarray, statistics: PairStatistics, positions: np.ndarray) -> Lists:
    """The lists of the test examples at these positions; of training examples for transposed arrays.

    sample: seeds' scores (S, n_others, n); statistics: of the same, (n_others, n).
    """
    columns = np.arange(len(positions))[:, None]
    mean = statistics.mean[:, positions].T
    extreme = extreme_positions(mean)
    found = np.where(extreme < 0, 0, extreme)

    def taken(values: np.ndarray) -> np.ndarray:
        return values[:, positions].T[columns, found]

    std = taken(statistics.std)
    seeds = np.stack([taken(one) for one in sample], axis=-1)
    return Lists(extreme, mean[columns, found], std, taken(statistics.q_value), seed_steps(seeds, mean[columns, found], std))


def transposed(statistics: PairStatistics) -> PairStatistics:
    """The same with test examples as rows."""
    fields = {name: value.T if isinstance(value, np.ndarray) else value for name, value in vars(statistics).items()}
    return PairStatistics(**fields)


def extreme_positions(mean: np.ndarray) -> np.ndarray:
    """Positions (n, 2 LISTED) int32 of the others (n, n_others) with the largest means above 0, and with the least below it."""
    count = min(LISTED, mean.shape[1])
    found = np.full((len(mean), 2 * LISTED), NOBODY, dtype=np.int32)
    for start, values in ((0, mean), (LISTED, -mean)):
        order = np.argsort(-values, axis=1, kind="stable")[:, :count]
        positive = np.take_along_axis(values, order, axis=1) > 0
        found[:, start : start + count] = np.where(positive, order, NOBODY)
    return found


def seed_steps(seeds: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Scores (..., S) as int8 distances from their mean (...), as Lists says; 0 where they do not spread."""
    step = largest_distance(seeds.shape[-1]) * std / 127
    distance = np.divide(seeds - mean[..., None], step[..., None], out=np.zeros(seeds.shape), where=step[..., None] > 0)
    return np.rint(distance).clip(-127, 127).astype(np.int8)


def largest_distance(num_seeds: int) -> float:
    """The largest distance of one of S numbers from their mean, in standard deviations (with n - 1)."""
    return (num_seeds - 1) / num_seeds**0.5


def pair_bytes(statistics: PairStatistics, trains: np.ndarray, tests: np.ndarray) -> tuple[bytes, float]:
    """Means and q of all pairs of these examples, a test example after another, and the factor that the means were divided by.

    Means are float16 (relative error at most 0.05 %), q is a code from 0 to 65535 of -log10 q from 0 to 16 (0.03 %).
    """
    mean = statistics.mean[np.ix_(trains, tests)].T
    largest = float(np.abs(statistics.mean).max(initial=0))
    scale = 2.0 ** np.ceil(np.log2(largest / _LARGEST_HALF)) if largest > 0 else 1.0
    q = statistics.q_value[np.ix_(trains, tests)].T.clip(LEAST_Q, 1)
    code = np.rint(-np.log10(q) / -np.log10(LEAST_Q) * _Q_STEPS)
    parts = (mean / scale).astype("<f2"), code.astype("<u2")
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts), float(scale)


def as_text(content: bytes) -> str:
    """Bytes in base64."""
    return base64.b64encode(content).decode("ascii")
