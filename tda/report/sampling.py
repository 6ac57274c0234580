"""What of an experiment goes into its page, where not everything fits: numbers of checkpoints, examples, pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tda.system.random_streams import stream

LISTED = 10
"""How many of the most helpful, and as many of the most harmful, are listed for an example by a method."""
_NUMBERS = 3 * 4 + 4
"""Bytes of a listed pair besides its seeds: mean, deviation and q in float32, and the other example's position."""
_PAIR = 4
"""Bytes of a pair that is not listed: the mean in float16, and q as a code of 16 bits."""
_MOST_TRAINS = 1000
"""Training examples of which the page tells whom they help and harm, unless there is room for more tests without them."""
_FEWEST_TESTS = 50
_RANDOM_SHARE = 0.7


@dataclass(frozen=True)
class Counts:
    """How large an experiment is."""

    methods: int
    seeds: int
    checkpoints: int
    trains: int
    tests: int


@dataclass(frozen=True)
class Room:
    """How much of it the page holds.

    checkpoints: the numbers of last checkpoints over which a seed's score is averaged, ascending; trains, tests: how many
    examples have lists; complete: of how many test examples every pair with those training examples is there.
    """

    checkpoints: tuple[int, ...]
    trains: int
    tests: int
    complete: int


def room_in(budget: int, counts: Counts) -> Room:
    """The most that fits into `budget` bytes: every number of checkpoints if all fit, else the largest alone.

    Then as many test examples as fit, all pairs of as many of them as there is room left for. At least 50 test examples, or all
    that there are, are listed whatever the budget.
    """
    listed = counts.methods * 2 * LISTED * (_NUMBERS + counts.seeds)
    trains = min(counts.trains, _MOST_TRAINS)
    pairs = counts.methods * _PAIR * trains
    whole = counts.checkpoints * listed * (counts.trains + counts.tests) + pairs * counts.tests
    if whole <= budget and counts.trains <= trains:
        return Room(tuple(range(1, counts.checkpoints + 1)), counts.trains, counts.tests, counts.tests)
    left = budget - listed * trains
    tests = min(counts.tests, max(_FEWEST_TESTS, left // listed))
    complete = min(tests, max(0, (left - listed * tests) // pairs))
    return Room((counts.checkpoints,), trains, tests, int(complete))


def chosen_tests(count: int, wrong: np.ndarray, share: np.ndarray, disagreement: np.ndarray) -> np.ndarray:
    """Positions of the test examples that the page holds, those first that it holds most of: (count,) int64.

    wrong: misclassified by most seeds; share: of reliable pairs; disagreement: of the methods; all (n_test,). The sample has
    misclassified examples, the most and the least reliable ones, those on which methods disagree most, each up to a tenth of
    it, and for the rest a draw that is always the same.
    """
    each = max(1, round(count * (1 - _RANDOM_SHARE) / 4))
    by_share = np.argsort(-share, kind="stable")
    rankings = (np.flatnonzero(wrong), by_share, by_share[::-1], np.argsort(-disagreement, kind="stable"))
    drawn = shuffled(len(share), "test examples of the report")
    first = [int(position) for ranking in rankings for position in ranking[:each]]
    return np.array(list(dict.fromkeys([*first, *drawn.tolist()]))[:count], dtype=np.int64)


def chosen_trains(count: int, listed: Sequence[np.ndarray], total: int) -> np.ndarray:
    """Positions of the training examples that the page tells of, ascending: all, or those that lists name most often.

    listed: positions in lists, -1 where there is none. Ties are drawn, always alike.
    """
    named = np.zeros(total, dtype=np.int64)
    for positions in listed:
        named += np.bincount(positions[positions >= 0].ravel(), minlength=total)
    order = shuffled(total, "training examples of the report")
    return np.sort(order[np.argsort(-named[order], kind="stable")][:count])


def shuffled(total: int, purpose: str) -> np.ndarray:
    """Positions 0 to total - 1 in an order that is always the same."""
    import torch

    return torch.randperm(total, generator=stream(0, purpose)).numpy()
