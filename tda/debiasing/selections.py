"""Which training examples a selection takes: from numbers by example to positions in the training split."""

from collections.abc import Hashable, Sequence

import numpy as np
import torch

from tda.statistics.group_alignment import group_codes
from tda.system.random_streams import stream


def lowest(values: np.ndarray, count: int) -> np.ndarray:
    """Positions (count,) int64, ascending, of the lowest values (n,); of equal ones those of a fixed random order.

    The random order keeps counts that are mostly 0 from choosing by the place in the training split.
    """
    order = _random_order(len(values), 0, "equal values")
    return np.sort(order[np.argsort(values[order], kind="stable")[:count]])


def random_positions(num_train: int, count: int, draw: int) -> np.ndarray:
    """Positions (count,) int64, ascending, drawn uniformly; those of a smaller count are among those of a larger one."""
    return np.sort(_random_order(num_train, draw, "random removal of training examples")[:count])


def balancing(groups: Sequence[Hashable] | np.ndarray, count: int, draw: int) -> np.ndarray:
    """Positions (count,) int64, ascending, drawn from the largest groups (n,), so that those that stay are as equal as can be.

    One example after another goes, each from the group that is the largest then; which of its examples, is drawn.
    """
    _, codes = group_codes(groups)
    order = _random_order(len(codes), draw, "balanced removal of training examples")
    sizes = np.bincount(codes)
    # An example goes when its group has come down to its rank within it, the largest ranks first.
    ranks = np.empty(len(codes), dtype=np.int64)
    for code in range(len(sizes)):
        members = order[codes[order] == code]
        ranks[members] = np.arange(len(members))
    first = np.lexsort((np.argsort(order), -ranks))
    return np.sort(first[:count])


def removals_to_balance(groups: Sequence[Hashable] | np.ndarray) -> int:
    """How many examples must go until all groups are as small as the smallest."""
    sizes = np.bincount(group_codes(groups)[1])
    return int((sizes - sizes.min()).sum())


def _random_order(size: int, draw: int, purpose: str) -> np.ndarray:
    return torch.randperm(size, generator=stream(draw, purpose)).numpy()
