"""Mean reciprocal rank and recall: by hand, and with ties against the mean over all orders."""

from itertools import permutations

import numpy as np
import pytest

from tda.statistics.retrieval import recalls, reciprocal_ranks


def test_without_ties_by_hand():
    scores = np.array([[3.0, 0.1], [2.0, 0.2], [1.0, 0.3], [0.0, 0.4]])
    relevant = np.array([[False, True], [True, False], [True, False], [False, False]])
    assert reciprocal_ranks(scores, relevant).tolist() == [1 / 2, 1 / 4]
    assert recalls(scores, relevant, 2).tolist() == [1 / 2, 0.0]
    assert recalls(scores, relevant, 1).tolist() == [0.0, 0.0]
    assert recalls(scores, relevant, 9).tolist() == [1.0, 1.0]
    # Of two relevant rows one alone can be first.
    assert recalls(scores[::-1], relevant, 1).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("seed", range(6))
def test_ties_are_means_over_all_orders(seed: int):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 3, 6).astype(float)
    relevant = generator.random(6) < 0.4
    relevant[0] = True
    ranks, found = [], []
    for order in permutations(range(6)):
        ordered = sorted(order, key=lambda row: -scores[row])
        ranks.append(1 / (1 + min(place for place, row in enumerate(ordered) if relevant[row])))
        found.append(sum(relevant[row] for row in ordered[:2]) / min(2, relevant.sum()))
    assert reciprocal_ranks(scores[:, None], relevant[:, None])[0] == pytest.approx(np.mean(ranks))
    assert recalls(scores[:, None], relevant[:, None], 2)[0] == pytest.approx(np.mean(found))


def test_nothing_relevant_is_never_found():
    assert reciprocal_ranks(np.ones((3, 1)), np.zeros((3, 1), dtype=bool)).tolist() == [0.0]
    assert recalls(np.ones((3, 1)), np.zeros((3, 1), dtype=bool), 2).tolist() == [0.0]
