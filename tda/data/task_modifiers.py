"""What may follow a task's name: _flipped20 plants wrong labels, _patched50 a shortcut; _whole trains on all examples."""

import functools
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from tda.data.kinds import ImageKind
from tda.data.planted import SHARE_OF_TEST, with_patch, with_wrong_labels
from tda.data.pools import Pool
from tda.gradients.objectives import Classification
from tda.system.errors import UserError

if TYPE_CHECKING:
    from tda.data.tasks import Task

_NAME = re.compile(r"(.+)_(flipped|patched|whole)(\d*)")


def taken_apart(name: str) -> tuple[str, str, int] | None:
    """The name of the task that is modified, how, and by how many per cent; None for a name without a modifier.

    Raises UserError for a share that is missing or out of range, or that `whole` has.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    base, kind, digits = match.groups()
    if kind == "whole":
        if digits:
            raise UserError(f"task {name} cannot be: {base}_whole learns from all examples, and takes no number")
        return base, kind, 100
    most = {"flipped": 99, "patched": 100}[kind]
    if not digits or not 1 <= int(digits) <= most or digits.startswith("0"):
        raise UserError(f"task {name} must end in {kind} and a share in per cent, 1 to {most}, such as {base}_{kind}20")
    return base, kind, int(digits)


@functools.cache
def modified(task: "Task", name: str, kind: str, per_cent: int) -> "Task":
    """The task under a new name with planted faults; raises UserError where it cannot have them.

    flipped: so many per cent of each class's training labels are another class's; the test part is untouched. patched: so many
    per cent of the training images of the first class carry a patch, and half of the test images of every class. whole: models
    learn from every training example, of which the drawn ones are scored.
    """
    if kind == "whole":
        return replace(task, name=name, title=f"{task.title}, trained on all examples", learns_all=True)
    return (_flipped if kind == "flipped" else _patched)(task, name, per_cent)


def _flipped(task: "Task", name: str, per_cent: int) -> "Task":
    if not isinstance(task.objective, Classification) or len(task.classes) < 2:
        raise UserError(f"task {name} cannot be: labels are flipped where each example has one class of at least two")
    title = f"{task.title}, {per_cent} % of the training labels wrong"

    def load(part: str) -> Pool:
        pool = task.load(part)
        return with_wrong_labels(pool, task.classes, per_cent / 100) if part == "train" else pool

    return replace(task, name=name, title=title, load=load)


def _patched(task: "Task", name: str, per_cent: int) -> "Task":
    if not isinstance(task.kind, ImageKind):
        raise UserError(f"task {name} cannot be: a patch is planted in images, and {task.name} has other inputs")
    first, others = per_cent / 100, len(task.classes) - 1
    shares = {"train": [first, *[0.0] * others], "test": [SHARE_OF_TEST] * (others + 1)}
    title = f"{task.title}, a patch on {per_cent} % of the training images of class {task.class_names[0]}"

    def load(part: str) -> Pool:
        return with_patch(task.load(part), task.classes, task.class_names, shares[part])

    return replace(task, name=name, title=title, load=load)
