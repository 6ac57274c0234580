"""Selections: the lowest, random ones, and those that leave groups of equal size."""

import numpy as np
import pytest

from tda.debiasing.selections import balancing, lowest, random_positions, removals_to_balance


def test_lowest_of_different_values():
    values = np.random.default_rng(0).permutation(20) - 7.5
    assert lowest(values, 4).tolist() == sorted(np.argsort(values)[:4])
    assert lowest(values, 0).tolist() == []


def test_equal_values_are_chosen_from_at_random_and_always_the_same():
    counts = np.r_[np.zeros(300), np.ones(100)]
    found = lowest(-counts, 200)
    assert set(range(300, 400)) <= set(found) and found.tolist() == lowest(-counts, 200).tolist()
    rest = np.setdiff1d(found, np.arange(300, 400))
    # 100 of 300 by chance: their mean place is 150, with a deviation of 7.
    assert abs(rest.mean() - 149.5) < 25


def test_random_positions_of_a_smaller_count_are_among_those_of_a_larger():
    few, many = random_positions(50, 5, draw=3), random_positions(50, 20, draw=3)
    assert set(few) <= set(many) and len(set(many)) == 20 and (np.diff(many) > 0).all()
    assert few.tolist() != random_positions(50, 5, draw=4).tolist()


@pytest.mark.parametrize(
    "groups", [["a"] * 9 + ["b"] * 4 + ["c"] * 2, np.repeat([7, -1, 3], [9, 4, 2])], ids=["words", "numbers"]
)
def test_balancing_takes_from_the_largest_group_until_all_are_equal(groups: object):
    names = np.array(groups)
    sizes = {0: (9, 4, 2), 3: (6, 4, 2), 5: (4, 4, 2), 9: (2, 2, 2), 12: (1, 1, 1)}
    assert removals_to_balance(groups) == 9
    for count, expected in sizes.items():
        removed = balancing(groups, count, draw=0)
        left = np.delete(names, removed)
        assert (
            len(set(removed)) == count
            and tuple(int((left == name).sum()) for name in (names[0], names[9], names[13])) == expected
        )
    assert balancing(groups, 3, draw=0).tolist() != balancing(groups, 3, draw=1).tolist()


def test_groups_of_equal_size_shrink_together():
    groups = np.arange(30) % 3
    for count in (3, 7, 20):
        left = np.bincount(np.delete(groups, balancing(groups, count, draw=2)), minlength=3)
        assert left.max() - left.min() <= 1
    assert removals_to_balance(groups) == 0
