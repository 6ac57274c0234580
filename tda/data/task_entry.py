"""What a task is."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from unicodedata import category

from tda.data.kinds import Kind
from tda.data.pools import Pool
from tda.gradients.objectives import Classification, Objective
from tda.system.errors import UserError


@dataclass(frozen=True)
class Task:
    """What models learn, on which examples.

    classes: the data set's labels that the task keeps, in the order of the task's own labels 0, 1, ...
    load: (part) -> Pool, all examples of the data set's "train" or "test" part, of any class.
    kind: of input; it alone knows pixels and tokens. objective: the loss, and what follows from it.
    learns_all: whether models learn from every training example of the classes, however many each has; the drawn ones are then
    those that are scored, and a class that has fewer than were asked for gives all that it has.
    Raises UserError for a name that cannot be a folder's and an argument's, unless each class has one name, for a single class
    where classes are learned, and unless epochs is a whole number of at least 1.
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

    def __post_init__(self) -> None:
        # Marks, such as the vowels of Hindi, are no letters to \w.
        if not re.fullmatch(r"\w[\w.-]*", "".join(sign for sign in self.name if category(sign)[0] != "M")):
            raise UserError(f"a task cannot be named {self.name!r}; use letters, digits, _, - and dots")
        if len(self.classes) != len(self.class_names):
            raise UserError(f"task {self.name} has {len(self.classes)} classes but {len(self.class_names)} class_names")
        if len(self.classes) < 2 and isinstance(self.objective, Classification):
            raise UserError(
                f"task {self.name} has one class, of which a classifier has nothing to learn; name two classes or more"
            )
        if not isinstance(self.epochs, int) or self.epochs < 1:
            raise UserError(f"task {self.name} cannot be trained for {self.epochs!r} epochs; give a whole number of at least 1")
