"""What a task is."""

from collections.abc import Callable
from dataclasses import dataclass

from tda.data.kinds import Kind
from tda.data.pools import Pool
from tda.gradients.objectives import Classification, Objective


@dataclass(frozen=True)
class Task:
    """What models learn, on which examples.

    classes: the data set's labels that the task keeps, in the order of the task's own labels 0, 1, ...
    load: (part) -> Pool, all examples of the data set's "train" or "test" part, of any class.
    kind: of input; it alone knows pixels and tokens. objective: the loss, and what follows from it.
    learns_all: whether models learn from every training example of the classes, however many each has; the drawn ones are then
    those that are scored, and a class that has fewer than were asked for gives all that it has.
    """

    name: str
    title: str
    classes: tuple[int, ...]
    class_names: tuple[str, ...]
    epochs: int
    test_per_class: int
    load: Callable[[str], Pool]
    kind: Kind
    objective: Objective = Classification()
    learns_all: bool = False
