"""One part of a data set as it was found, before a subset of it is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Pool:
    """One part of a data set: n examples and the data set's own labels (n,) int64.

    examples: as the task's kind takes them: images (n, h, w, c) uint8, or texts; an array, or what gives one for an array of
    positions; a tuple of such, for examples of several parts.
    """

    examples: Any
    labels: np.ndarray

    def examples_at(self, positions: np.ndarray | Sequence[int]) -> Any:
        """The examples at the given positions, in their order."""
        if isinstance(self.examples, tuple):
            return tuple(part[positions] for part in self.examples)
        return self.examples[positions]
