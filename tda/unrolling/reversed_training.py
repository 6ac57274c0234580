"""A training whose steps are gone through from the last to the first."""

import math
from collections.abc import Iterator

from tda.models.model_state import ModelState, read_state, trained_parameters
from tda.system.errors import UserError
from tda.training.taken_steps import TakenStep, Training


class ReversedTraining:
    """A training whose steps can be gone through from the last to the first.

    All steps are kept where they fit the memory; otherwise a state every so many steps, from which the steps after it are taken
    again. The square root of their number is the cheapest such distance (Chen et al. 2016).
    """

    def __init__(self, training: Training, until: int, memory: int) -> None:
        """Train; the model is then that after `until` steps. Raises UserError if the memory does not do."""
        self._training = training
        size = _state_size(training)
        self._length = until if until * size <= memory else math.isqrt(until - 1) + 1
        needed = size * (self._length + (0 if self._length == until else -(-until // self._length)))
        if needed > memory:
            gib = 2**30
            raise UserError(
                f"going back through {until} steps takes {needed / gib:.1f} GiB of states; "
                f"raise --unrolled.memory_gib from {memory / gib:g}, or choose --unrolled.mode forward"
            )
        self._starts: list[ModelState] = []
        self._kept: list[TakenStep] = []
        for step in training.steps(until=until):
            if step.number % self._length == 0 and step.number < until:
                self._starts.append(read_state(training.model, training.optimizer))
            if step.number > (until - 1) // self._length * self._length:
                self._kept.append(step.kept())

    def backwards(self) -> Iterator[TakenStep]:
        """The steps from the last to the first; the model is at no step in particular meanwhile."""
        yield from reversed(self._kept)
        self._kept = []
        for number in reversed(range(len(self._starts))):
            start = self._starts[number - 1] if number else None
            taken = number * self._length
            kept = [step.kept() for step in self._training.steps(start, taken, taken + self._length)]
            yield from reversed(kept)


def _state_size(training: Training) -> int:
    """Bytes of the parameters, and of Adam's gradient and what it remembers."""
    parameters = trained_parameters(training.model).values()
    copies = 1 if training.plan.momentum is not None else 4
    return copies * sum(parameter.numel() * parameter.element_size() for parameter in parameters)
