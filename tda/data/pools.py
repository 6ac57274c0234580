"""One part of a data set as it was found, before a subset of it is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tda.system.errors import UserError


@dataclass(frozen=True)
class Asked:
    """What a text asks for when it is a test example: a fact by its name, and where its answer stands.

    place: the first character of the answer in the text, and the one behind its last; None where the answer is all that a model
    writes, as for a question that another model reads.
    """

    fact: str
    place: tuple[int, int] | None = None


@dataclass(frozen=True)
class Pool:
    """One part of a data set: n examples and the data set's own labels (n,) int64.

    examples: as the task's kind takes them: images (n, h, w, c) uint8, or texts; an array, or what gives one for an array of
    positions; a tuple of such, for examples of several parts. files: what leads a person to each example, such as the path of
    its file below data/; None where examples have no files of their own. true_labels: what the labels should be, (n,) int64 in
    the numbering of labels; None where nothing else is known than the labels. groups: the group of each example, (n,) str; None
    where there are none. facts: the facts that each text states, a tuple of names an example; None where there are none. No
    model sees any of these. asked: what each text asks for as a test example, None for one that is read as a whole; None where
    none asks for anything. Raises UserError for labels that are no whole numbers (n,), for examples in a list, and where
    anything is of another length than the labels.
    """

    examples: Any
    labels: np.ndarray
    files: Sequence[str] | None = None
    true_labels: np.ndarray | None = None
    groups: np.ndarray | None = None
    facts: Sequence[tuple[str, ...]] | None = None
    asked: Sequence[Asked | None] | None = None

    def __post_init__(self) -> None:
        several = isinstance(self.examples, tuple)
        parts = tuple(map(_by_position, self.examples if several else (self.examples,)))
        columns = {name: _by_position(getattr(self, name)) for name in ("files", "true_labels", "groups", "facts", "asked")}
        labels = np.asarray(self.labels)
        if labels.dtype.kind not in "iub" or labels.ndim != 1:
            raise UserError(
                f"the labels of a Pool are whole numbers (n,), not {labels.dtype} {labels.shape}; mend the task's load"
            )
        if any(isinstance(part, list) for part in parts):
            raise UserError("the examples of a Pool are in a list; give them as an array, in the task's load")
        for name, column in [*(("examples", part) for part in parts), *columns.items()]:
            if hasattr(column, "__len__") and len(column) != len(labels):
                raise UserError(f"a Pool has {len(labels)} labels but {len(column)} {name}; mend the task's load")
        for name, column in {"examples": parts if several else parts[0], "labels": labels, **columns}.items():
            object.__setattr__(self, name, column)

    def examples_at(self, positions: np.ndarray | Sequence[int]) -> Any:
        """The examples at the given positions, in their order."""
        if isinstance(self.examples, tuple):
            return tuple(part[positions] for part in self.examples)
        return self.examples[positions]

    def files_at(self, positions: np.ndarray | Sequence[int]) -> np.ndarray | None:
        """Their files (k,) str, or None."""
        return None if self.files is None else np.array([self.files[position] for position in positions], dtype=str)

    def facts_at(self, positions: np.ndarray | Sequence[int]) -> np.ndarray | None:
        """The facts that they state, (k,) of tuples of str, or None."""
        if self.facts is None:
            return None
        found = np.empty(len(positions), dtype=object)
        for place, position in enumerate(positions):
            found[place] = tuple(self.facts[position])
        return found

    def named(self, position: int) -> str:
        """An example's index, with its file where it has one, for a message."""
        return str(position) if self.files is None else f"{position} ({self.files[position]})"


def _by_position(column: Any) -> Any:
    """A column of a table as an array, for its own index would choose other examples than positions do; else the same."""
    return column.to_numpy() if hasattr(column, "to_numpy") else column
