"""Pieces of work beside each other."""

import threading

import pytest
import torch

from tda.system.workers import as_completed, in_order


def square(number: int) -> int:
    return number**2


def test_results_come_in_order():
    assert list(in_order(square, 20)) == [number**2 for number in range(20)]


def test_results_come_as_they_are_completed():
    assert sorted(as_completed(square, 20)) == [number**2 for number in range(20)]
    assert list(as_completed(square, 0)) == list(in_order(square, 0)) == []


@pytest.mark.parametrize("spread", [in_order, as_completed])
def test_work_has_one_thread_each_and_the_callers_number_returns(spread):
    before = torch.get_num_threads()
    assert set(spread(lambda number: torch.get_num_threads(), 8)) == {1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("spread", [in_order, as_completed])
def test_error_reaches_the_caller_and_cancels_what_has_not_begun(spread):
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 0:
            raise ValueError("a defect")
        threading.Event().wait(0.05)
        return number

    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="a defect"):
        list(spread(work, 100))
    assert len(begun) < 100 and torch.get_num_threads() == before
