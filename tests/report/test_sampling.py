"""What goes into a page where not everything fits."""

import numpy as np
import pytest

from tda.report.sampling import LISTED, Counts, Room, chosen_tests, chosen_trains, room_in

BUDGET = 9_000_000


def size_of(room: Room, counts: Counts) -> int:
    listed = len(room.checkpoints) * (room.trains + room.tests) * counts.methods * 2 * LISTED * (16 + counts.seeds)
    return listed + counts.methods * 4 * room.trains * room.complete


def test_a_small_experiment_is_there_whole():
    room = room_in(BUDGET, Counts(methods=14, seeds=10, checkpoints=5, trains=30, tests=150))
    assert room == Room((1, 2, 3, 4, 5), 30, 150, 150)


@pytest.mark.parametrize(
    "counts",
    [
        Counts(14, 10, 5, 150, 900),
        Counts(14, 10, 5, 30, 900),
        Counts(2, 10, 5, 1000, 10_000),
        Counts(6, 10, 5, 10_000, 500),
        Counts(20, 100, 5, 1000, 10_000),
    ],
)
def test_what_is_chosen_fits_or_is_the_least(counts: Counts):
    room = room_in(BUDGET, counts)
    assert room.checkpoints == (5,) and room.trains == min(counts.trains, 1000)
    assert room.complete <= room.tests <= counts.tests
    assert size_of(room, counts) <= BUDGET or (room.tests == 50 and room.complete == 0)
    if room.tests < counts.tests:
        larger = Room(room.checkpoints, room.trains, room.tests + 1, 0)
        assert size_of(larger, counts) > BUDGET


def test_the_sample_of_tests_has_each_kind_first_and_is_always_the_same():
    generator = np.random.default_rng(0)
    share, apart, wrong = generator.random(400), generator.random(400), generator.random(400) < 0.03
    chosen = chosen_tests(100, wrong, share, apart)
    assert len(set(chosen.tolist())) == 100
    assert set(np.flatnonzero(wrong)[:7]) <= set(chosen) and {share.argmax(), share.argmin(), apart.argmax()} <= set(chosen)
    assert (chosen == chosen_tests(100, wrong, share, apart)).all()
    assert sorted(chosen_tests(400, wrong, share, apart)) == list(range(400))


def test_training_examples_are_those_that_lists_name_most():
    listed = [np.array([[7, 3, -1], [7, 5, 3]]), np.array([[7, -1, -1]])]
    assert chosen_trains(2, listed, 10).tolist() == [3, 7]
    assert chosen_trains(10, listed, 10).tolist() == list(range(10))
