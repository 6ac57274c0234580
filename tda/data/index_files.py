"""Index files: balanced subsets as text, drawn, written, read back and checked.

One index a line, counted from 0 in the data set's own training or test part. Where examples have files, each line names its
own behind a #, and files_<part>.csv beside the index files lists those of the whole part.
"""

import contextlib
import csv
import io
from pathlib import Path

import numpy as np

from tda.data.pools import Pool
from tda.data.tasks import Task
from tda.experiments.folders import subset_file
from tda.system.errors import UserError
from tda.system.files import reading, write_text

PARTS = ("train", "test")


def draw_subset(task: Task, pool: Pool, num_per_class: int, draw_seed: int, part: str = "train") -> np.ndarray:
    """Draw `num_per_class` examples of each class without replacement: indices (classes * num_per_class,) int64.

    The classes take turns. A larger subset drawn with the same seed contains a smaller one. Raises UserError if a class has
    fewer examples, unless models learn from all of them anyway: then it gives those that it has.
    """
    sizes = {name: int(count) for name, count in zip(task.class_names, _counts(task, pool.labels), strict=True)}
    for name, size in sizes.items():
        if num_per_class > size and not _gives_what_it_has(task, part):
            counts = ", ".join(f"{other} {count}" for other, count in sizes.items())
            mend = "--num_per_class" if part == "train" else "test_per_class of the task"
            raise UserError(
                f"class {name} of {task.name} has {size} examples in the {part} part, fewer than the {num_per_class} asked for "
                f"({counts}); subsets hold the same number of each class: lower {mend} to at most {min(sizes.values())}, "
                f"or add examples"
            )
    columns = [drawing_order(pool, label, draw_seed)[:num_per_class] for label in task.classes]
    turns = np.concatenate([np.arange(len(column)) for column in columns])
    return np.concatenate(columns)[np.argsort(turns, kind="stable")]


def drawing_order(pool: Pool, label: int, draw_seed: int = 0) -> np.ndarray:
    """All examples of a class in the order in which subsets take them: indices (n,) int64."""
    candidates = np.flatnonzero(pool.labels == label)
    return candidates[np.random.default_rng([draw_seed, label]).permutation(len(candidates))]


def write_subset(task: Task, split: str, num_per_class: int, draw_seed: int, force: bool) -> bool:
    """Draw and write an index file unless it exists (`force` overwrites); tells whether it was written.

    An existing file is checked like one that is about to be used. Raises UserError as draw_subset and read_subset do.
    """
    if num_per_class < 1:
        raise UserError(f"a subset needs at least 1 example per class, not {num_per_class}")
    path = subset_file(task.name, split, num_per_class)
    pool = task.load(split)
    kept = not force and _is_there(path)
    if kept:
        read_subset(task, split, num_per_class, pool)
    else:
        drawn = draw_subset(task, pool, num_per_class, draw_seed, split)
        write_text(path, "".join(f"{index}{_comment(pool, index)}\n" for index in drawn))
    if pool.files is not None:
        _write_file_table(path.with_name(f"files_{split}.csv"), task, pool)
    return not kept


def read_subset(task: Task, split: str, num_per_class: int, pool: Pool) -> np.ndarray:
    """Read a drawn subset's index file and check it against the data: indices (n,) int64.

    Raises UserError, naming the file, as read_indices does, and if a class has the wrong count.
    """
    path = subset_file(task.name, split, num_per_class)
    if not _is_there(path):
        raise UserError(
            f"{path} is missing; draw it with run_subset_generation.py --task {task.name} --num_per_class {num_per_class}"
        )
    indices = read_indices(path, task, split, pool)
    sizes = _counts(task, pool.labels) if _gives_what_it_has(task, split) else [num_per_class] * len(task.classes)
    for count, size, name in zip(_counts(task, pool.labels[indices]), sizes, task.class_names, strict=True):
        if count != (wanted := min(num_per_class, size)):
            raise UserError(f"{path} has {count} examples of class {name} instead of {wanted}; {_what_fits(task, indices)}")
    return indices


def read_indices(path: Path, task: Task, split: str, pool: Pool) -> np.ndarray:
    """Read indices into one part of a task's data, one a line: (n,) int64.

    Raises UserError, naming the file and the offending index, if the file is missing, unreadable, empty or not text of
    integers, if an index is out of range, repeated or of a class outside the task, or if its example has another file now.
    """
    size = len(pool.labels)
    indices, files = _parsed(path)
    if len(indices) == 0:
        raise UserError(f"{path} holds no index; mend or delete it")
    outside = indices[(indices < 0) | (indices >= size)]
    if len(outside):
        raise UserError(
            f"{path} holds index {outside[0]}, but the {split} part of {task.name} has indices 0 to {size - 1}; "
            f"{_what_fits(task, indices)}"
        )
    values, counts = np.unique(indices, return_counts=True)
    if len(values) < len(indices):
        raise UserError(f"{path} holds index {values[counts > 1][0]} more than once")
    for index, file in files.items():
        if pool.files is not None and file != pool.files[index]:
            raise UserError(
                f"index {index} of {path} was {file} and is now {pool.files[index]}, since files came or went; restore them, "
                f"or draw again with run_subset_generation.py --task {task.name} --force"
            )
    foreign = indices[~np.isin(pool.labels[indices], task.classes)]
    if len(foreign):
        raise UserError(
            f"{path} holds index {pool.named(foreign[0])}, whose class {pool.labels[foreign[0]]} is not one of {task.name}; "
            f"{_what_fits(task, indices)}"
        )
    return indices


def _parsed(path: Path) -> tuple[np.ndarray, dict[int, str]]:
    """The indices of a file in their order, and the files that it names for them."""
    try:
        with reading(path):
            lines = [line.partition("#") for line in path.read_text(encoding="utf-8-sig").split("\n")]
        indices = [[int(word) for word in numbers.split()] for numbers, _, _ in lines]
        found = np.array([index for words in indices for index in words], dtype=np.int64)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; put it there or name another file") from error
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path} cannot be read as text with one index a line; mend or delete it") from error
    named = zip(indices, lines, strict=True)
    return found, {words[0]: line[2].strip() for words, line in named if len(words) == 1 and line[2].strip()}


def _gives_what_it_has(task: Task, part: str) -> bool:
    """Whether a class with fewer examples than were asked for gives all of them."""
    return task.learns_all and part == "train"


def _is_there(path: Path) -> bool:
    try:
        with reading(path):
            return True
    except FileNotFoundError:
        return False


def _counts(task: Task, labels: np.ndarray) -> list[int]:
    """How many examples each of the task's classes has."""
    return [int((labels == label).sum()) for label in task.classes]


def _what_fits(task: Task, indices: np.ndarray) -> str:
    """The index file, by its name, that would hold these indices rightly; or how many each class has where none would."""
    seen = []
    for part in PARTS:
        with contextlib.suppress(UserError):
            labels = task.load(part).labels
            if indices.min() < 0 or indices.max() >= len(labels):
                seen.append(f"out of range in the {part} part")
                continue
            counts = _counts(task, labels[indices])
            if len(set(counts)) == 1 and sum(counts) == len(indices):
                return f"its indices would fit {subset_file(task.name, part, counts[0]).name}"
            others = len(indices) - sum(counts)
            counted = [f"{name} {count}" for name, count in zip(task.class_names, counts, strict=True)]
            seen.append(f"{', '.join(counted + [f'of other classes {others}'] * (others > 0))} in the {part} part")
    return f"its indices fit no part of {task.name} with equally many of each class: they are {'; '.join(seen)}"


def _comment(pool: Pool, index: int) -> str:
    return "" if pool.files is None else f"  # {pool.files[index]}"


def _write_file_table(path: Path, task: Task, pool: Pool) -> None:
    """Write which file each index of the task's classes stands for; columns index, class, file."""
    content = io.StringIO()
    table = csv.writer(content, lineterminator="\n")
    table.writerow(("index", "class", "file"))
    name_of = dict(zip(task.classes, task.class_names, strict=True))
    for index, (label, file) in enumerate(zip(pool.labels.tolist(), pool.files, strict=True)):
        if label in name_of:
            table.writerow((index, name_of[label], file))
    write_text(path, content.getvalue())
