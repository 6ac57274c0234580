"""The training examples with the highest and the lowest scores of each target, found block by block.

Only k examples a target are held, so that scores of any number of training examples may stream by. Of examples with equal
scores the first counts, as in a stable sort of the whole column.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tda.system.errors import UserError


@dataclass(frozen=True)
class Extremes:
    """Positions (k, m) int64 of each target's most helpful and most harmful training examples, extremes first.

    Beside them their scores (k, m), in the precision of the blocks. With fewer than k training examples there are so many rows.
    """

    helpful: np.ndarray
    helpful_scores: np.ndarray
    harmful: np.ndarray
    harmful_scores: np.ndarray


class Largest:
    """The k largest entries of each of m columns of a matrix whose blocks of rows are shown from the first to the last."""

    def __init__(self, k: int, num_columns: int) -> None:
        self.k = k
        # Filled in place: many small arrays that stay would leave holes between large ones that go, and memory would grow.
        self.positions = np.zeros((num_columns, k), np.int64)
        self.values = np.zeros((num_columns, k))
        self.counts = np.zeros(num_columns, np.int64)

    def add(self, start: int, columns: slice, values: np.ndarray) -> None:
        """Show a block (b, c), of the rows from start on."""
        for column, found in zip(range(*columns.indices(len(self.values))), values.T, strict=True):
            count = self.counts[column]
            # What equals the least that is kept comes later than it.
            new = np.flatnonzero(found > self.values[column, -1]) if count == self.k else np.arange(len(found))
            if len(new) > 4 * self.k:
                # The k-th largest and everything that equals it, so that the first of equals can be taken.
                new = new[found[new] >= np.partition(found[new], -self.k)[-self.k]]
            if len(new):
                joined = np.concatenate([self.values[column, :count], found[new]])
                positions = np.concatenate([self.positions[column, :count], start + new])
                order = np.argsort(-joined, kind="stable")[: self.k]
                self.values[column, : len(order)], self.positions[column, : len(order)] = joined[order], positions[order]
                self.counts[column] = len(order)

    def rows(self, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Positions (k, m) and entries, in the precision in which they came, or so many rows as there were."""
        fewest = self.counts.min(initial=self.k)
        return self.positions[:, :fewest].T.copy(), self.values[:, :fewest].T.astype(dtype)


def extremes_of_blocks(blocks: Iterable[tuple[tuple[slice, slice], np.ndarray]], k: int, num_targets: int) -> Extremes:
    """The extremes of scores that come as ((rows, columns), values) blocks, rows ascending for each block of columns.

    Raises UserError if a score is not a finite number, or k is below 1.
    """
    if k < 1:
        raise UserError(f"the number of examples to find is {k}; it must be at least 1")
    highest, lowest, dtype = Largest(k, num_targets), Largest(k, num_targets), np.dtype(np.float64)
    for (rows, columns), values in blocks:
        start, dtype = rows.start or 0, values.dtype
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            raise UserError(
                f"the score of training example {start + row} for target {(columns.start or 0) + column} is not a finite number"
            )
        highest.add(start, columns, values)
        lowest.add(start, columns, -values)
    (helpful, helpful_scores), (harmful, lowest_scores) = highest.rows(dtype), lowest.rows(dtype)
    return Extremes(helpful, helpful_scores, harmful, -lowest_scores)
