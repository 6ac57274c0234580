"""The registry of tasks. Adding a data set is adding one entry to TASKS, or one file of the user's in tasks/ of the root."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tda.data import downloads
from tda.data.bundled_digits import bundled_digits
from tda.data.dataset_library import LibrarySource
from tda.data.food101 import FOOD101_10, food101_10
from tda.data.human_labels import cifar10n
from tda.data.kinds import ImageKind, TextKind
from tda.data.pair_tasks import PAIR_TASKS, pairs_from_library
from tda.data.pools import Pool
from tda.data.recombined import merged, mixed, recombined_of
from tda.data.task_entry import Task
from tda.data.task_modifiers import modified, taken_apart
from tda.data.text_tasks import TEXT_TASKS, texts_from_library
from tda.experiments.folders import tasks_folder
from tda.system.errors import UserError
from tda.system.user_files import load_user_file, reason, user_files

__all__ = ["TASKS", "Task", "images_from_library", "pairs_from_library", "task_named", "texts_from_library"]


def images_from_library(path: str, image_column: str, label_column: str, group_column: str | None = None, **entry) -> Task:
    """A task whose images come through the datasets library; class_names are the data set's own (see LibrarySource)."""
    kind: ImageKind = entry["kind"]
    source = LibrarySource(path, image_column, label_column, entry["class_names"], kind.channels, kind.size, group_column)
    return Task(classes=tuple(range(len(source.class_names))), load=source.pool, **entry)


_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _cifar10_of_people(labels: str, title: str) -> Task:
    """CIFAR-10 whose training labels people gave; the task knows which are wrong."""
    return Task(
        name=f"cifar10n_{labels}",
        title=f"CIFAR-10 as people labelled it: {title}",
        classes=tuple(range(10)),
        class_names=_CIFAR10_CLASSES,
        kind=ImageKind(channels=3, size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        epochs=30,
        test_per_class=100,
        load=functools.partial(cifar10n, labels),
    )


_ENTRIES = (
    Task(
        name="digits3",
        title="handwritten digits 0-2 (bundled with scikit-learn)",
        classes=(0, 1, 2),
        class_names=("0", "1", "2"),
        kind=ImageKind(channels=1, size=28, mean=(0.0,), std=(1.0,)),
        epochs=15,
        test_per_class=50,
        load=bundled_digits,
    ),
    Task(
        name="mnist3",
        title="MNIST digits 0-2",
        classes=(0, 1, 2),
        class_names=("0", "1", "2"),
        kind=ImageKind(channels=1, size=28, mean=(0.0,), std=(1.0,)),
        epochs=15,
        test_per_class=300,
        load=downloads.mnist,
    ),
    Task(
        name="mnist",
        title="MNIST, all ten digits",
        classes=tuple(range(10)),
        class_names=tuple("0123456789"),
        kind=ImageKind(channels=1, size=28, mean=(0.1307,), std=(0.3081,)),
        epochs=15,
        test_per_class=50,
        load=downloads.mnist,
    ),
    Task(
        name="cifar10",
        title="CIFAR-10",
        classes=tuple(range(10)),
        class_names=_CIFAR10_CLASSES,
        kind=ImageKind(channels=3, size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        epochs=30,
        test_per_class=50,
        load=downloads.cifar10,
    ),
    Task(
        name="cifar2",
        title="CIFAR-10, cats and dogs",
        classes=(3, 5),
        class_names=("cat", "dog"),
        kind=ImageKind(channels=3, size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        epochs=50,
        test_per_class=250,
        load=downloads.cifar10,
    ),
    _cifar10_of_people("aggregate", "the label that most of three people gave"),
    _cifar10_of_people("random", "the label of the first of three people"),
    _cifar10_of_people("worst", "a wrong label where any of three people gave one"),
    Task(
        name="food101_10",
        title="Food-101, its first ten classes, whose training labels are unclean on purpose",
        classes=tuple(range(10)),
        class_names=FOOD101_10,
        kind=ImageKind(channels=3, size=128, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        epochs=30,
        test_per_class=100,
        load=food101_10,
    ),
    images_from_library(
        path="ylecun/mnist",
        image_column="image",
        label_column="label",
        name="mnist3_hub",
        title="MNIST digits 0-2, from the hub",
        class_names=("0", "1", "2"),
        kind=ImageKind(channels=1, size=28, mean=(0.0,), std=(1.0,)),
        epochs=15,
        test_per_class=300,
    ),
    images_from_library(
        path="uoft-cs/cifar10",
        image_column="img",
        label_column="label",
        name="cifar10_hub",
        title="CIFAR-10, from the hub",
        class_names=_CIFAR10_CLASSES,
        kind=ImageKind(channels=3, size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        epochs=30,
        test_per_class=50,
    ),
    images_from_library(
        path="own_images",
        image_column="image",
        label_column="label",
        name="own_images",
        title="images of one's own, in data/own_images/<train or test>/<class>/",
        class_names=("zero", "one", "two"),
        kind=ImageKind(channels=1, size=28, mean=(0.0,), std=(1.0,)),
        epochs=15,
        test_per_class=10,
    ),
    *TEXT_TASKS,
    *PAIR_TASKS,
)
TASKS = {task.name: task for task in _ENTRIES}


def task_named(name: str) -> Task:
    """The task of this name: an entry above, the TASK of a file in the user's tasks/, or one of them with planted faults
    or made of others.

    Raises UserError for an unknown name, which lists the known ones, for a file that fails or names a task that is taken, and
    for faults that a task cannot have (see task_modifiers.py).
    """
    own_file = tasks_folder() / f"{name}.py"
    if name in TASKS:
        if own_file.exists():
            raise UserError(f"{own_file} names its task {name}, as tda/data/tasks.py does; choose another name")
        return TASKS[name]
    own, mistakes = {}, {}
    for path in sorted(user_files(tasks_folder()), key=lambda path: path != own_file):
        try:
            task = _task_of(path, path.stat().st_mtime_ns)
        except UserError as error:
            mistakes[path] = error
            continue
        if task.name == name:
            return task
        own[task.name] = task
    parts = taken_apart(name)
    if parts is not None:
        base, kind, per_cent = parts
        return modified(task_named(base), name, kind, per_cent)
    if (names := recombined_of(name)) is not None:
        tasks = [task_named(each) for each in names]
        return merged(*tasks, name) if len(tasks) == 1 else mixed(*tasks, name)
    if own_file in mistakes:
        raise mistakes[own_file]
    known = f"known tasks are {', '.join([*TASKS, *own])}"
    raise UserError("; ".join([f"unknown task {name}", *map(str, mistakes.values()), known]))


@functools.cache
def _task_of(path: Path, changed: int) -> Task:
    """The TASK of a file of the user's; `changed` is when it was, so that a new version is loaded anew."""
    task = getattr(load_user_file(path, f"tasks_of_the_user.{path.stem}"), "TASK", None)
    if not isinstance(task, Task):
        raise UserError(f"{path} cannot be used: it defines no TASK, a tda.data.tasks.Task")
    kind = task.kind
    if isinstance(kind, TextKind):
        kind = replace(kind, encode=_told(path, "encode of its kind", kind.encode))
    return replace(task, load=_told(path, "its load", task.load, Pool), kind=kind)


def _told(path: Path, title: str, function: Callable, expected: type = object) -> Callable:
    """A function of the user's file whose mistakes are told in one sentence that names the file and the line."""

    @functools.wraps(function)
    def told(*arguments: object) -> object:
        try:
            found = function(*arguments)
        except (UserError, MemoryError):
            raise
        except Exception as error:
            raise UserError(f"{title} fails in {path}: {reason(error, path)}") from error
        if not isinstance(found, expected):
            raise UserError(f"{title} in {path} returns a {type(found).__name__} instead of a {expected.__name__}")
        return found

    return told
