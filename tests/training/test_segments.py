"""Segments of a training: what lies in each, how long it is, and the rates that its steps sum up to."""

import pytest

from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError
from tda.training.segments import Segment, segments

PLAN = TrainingPlan(epochs=12, learning_rate=0.5, batch_size=10)


def test_equal_lengths_where_each_has_a_checkpoint():
    found = segments(PLAN, 25, [12, 2, 4, 7, 8, 11], 3)
    assert [(one.epochs, one.steps) for one in found] == [((2, 4), 12), ((7, 8), 12), ((11, 12), 12)]
    assert [one.rates for one in found] == pytest.approx([6.0, 6.0, 6.0])


def test_equal_numbers_of_checkpoints_where_a_length_has_none():
    found = segments(PLAN, 25, [2, 3, 4, 10, 11, 12], 2)
    assert [(one.epochs, one.steps) for one in found] == [((2, 3, 4), 18), ((10, 11, 12), 18)]
    found = segments(PLAN, 25, [2, 3, 12], 3)
    assert [(one.epochs, one.steps) for one in found] == [((2,), 8), ((3,), 14), ((12,), 14)]


def test_training_up_to_an_earlier_checkpoint_has_its_own_steps_at_the_whole_training_s_rates():
    plan = TrainingPlan(epochs=4, learning_rate=0.8, batch_size=10, linear_decay=True)
    (found,) = segments(plan, 20, [1, 2], 1)
    assert found == Segment((1, 2), 4, pytest.approx(0.8 * (1 + 7 / 8 + 6 / 8 + 5 / 8)))


def test_momentum_lets_a_gradient_move_the_weights_further():
    plain, heavy = (TrainingPlan(epochs=2, learning_rate=0.1, momentum=value) for value in (0.0, 0.9))
    assert segments(heavy, 32, [2], 1)[0].rates == pytest.approx(10 * segments(plain, 32, [2], 1)[0].rates)


def test_repeated_epochs_count_once():
    assert segments(PLAN, 25, [6, 12, 12, 6], 2) == segments(PLAN, 25, [6, 12], 2)


@pytest.mark.parametrize("number", [0, 3])
def test_too_many_or_no_segments_are_refused(number: int):
    with pytest.raises(UserError, match=f"{number} segments need at least as many checkpoints.*up to epoch 12 there are 2"):
        segments(PLAN, 25, [6, 12], number)
