"""Index files: balanced subsets as text, drawn, written, read back and checked."""

from pathlib import Path

import numpy as np

from tda.data.pools import Pool
from tda.data.tasks import Task
from tda.experiments.folders import subset_file
from tda.system.errors import UserError
from tda.system.files import write_text

DRAW_SEED = 0


def draw_subset(task: Task, pool: Pool, num_per_class: int, draw_seed: int) -> np.ndarray:
    """Draw `num_per_class` examples of each class without replacement: indices (classes * num_per_class,) int64.

    The classes take turns. A larger subset drawn with the same seed contains a smaller one.
    """
    columns = []
    for position, label in enumerate(task.classes):
        candidates = np.flatnonzero(pool.labels == label)
        if num_per_class > len(candidates):
            raise UserError(
                f"class {task.class_names[position]} of {task.name} has {len(candidates)} examples in this part, "
                f"fewer than the {num_per_class} asked for; choose a smaller number per class"
            )
        order = np.random.default_rng([draw_seed, label]).permutation(len(candidates))
        columns.append(candidates[order[:num_per_class]])
    return np.stack(columns, axis=1).reshape(-1)


def write_subset(task: Task, split: str, num_per_class: int, draw_seed: int, force: bool) -> bool:
    """Draw and write an index file unless it exists (`force` overwrites); tells whether it was written.

    An existing file is checked like one that is about to be used. Raises UserError as read_subset does.
    """
    if num_per_class < 1:
        raise UserError(f"a subset needs at least 1 example per class, not {num_per_class}")
    path = subset_file(task.name, split, num_per_class)
    pool = task.load(split)
    if path.exists() and not force:
        read_subset(task, split, num_per_class, pool)
        return False
    drawn = draw_subset(task, pool, num_per_class, draw_seed)
    write_text(path, "".join(f"{index}\n" for index in drawn))
    return True


def read_subset(task: Task, split: str, num_per_class: int, pool: Pool) -> np.ndarray:
    """Read a drawn subset's index file and check it against the data: indices (n,) int64.

    Raises UserError, naming the file, as read_indices does, and if a class has the wrong count.
    """
    path = subset_file(task.name, split, num_per_class)
    if not path.exists():
        raise UserError(
            f"{path} is missing; draw it with run_subset_generation.py --task {task.name} --num_per_class {num_per_class}"
        )
    indices = read_indices(path, task, split, pool)
    for label, name in zip(task.classes, task.class_names, strict=True):
        count = int((pool.labels[indices] == label).sum())
        if count != num_per_class:
            raise UserError(
                f"{path} has {count} examples of class {name} instead of {num_per_class}; "
                f"do its indices belong to another part or data set?"
            )
    return indices


def read_indices(path: Path, task: Task, split: str, pool: Pool) -> np.ndarray:
    """Read indices into one part of a task's data, one a line: (n,) int64.

    Raises UserError, naming the file and the offending index, if the file is missing, empty or not text of integers, or if
    an index is out of range, repeated or of a class outside the task.
    """
    size = len(pool.labels)
    try:
        indices = np.array([int(line) for line in path.read_text().split()], dtype=np.int64)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; put it there or name another file") from error
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path} cannot be read as text with one index a line; mend or delete it") from error
    if len(indices) == 0:
        raise UserError(f"{path} holds no index; mend or delete it")
    outside = indices[(indices < 0) | (indices >= size)]
    if len(outside):
        raise UserError(f"{path} holds index {outside[0]}, but the {split} part of {task.name} has indices 0 to {size - 1}")
    values, counts = np.unique(indices, return_counts=True)
    if len(values) < len(indices):
        raise UserError(f"{path} holds index {values[counts > 1][0]} more than once")
    foreign = indices[~np.isin(pool.labels[indices], task.classes)]
    if len(foreign):
        raise UserError(
            f"{path} holds index {foreign[0]}, whose class {pool.labels[foreign[0]]} is not one of {task.name}; "
            f"do its indices belong to another part or data set?"
        )
    return indices
