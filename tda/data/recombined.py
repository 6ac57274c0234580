"""Tasks made of others, of which a group of each example is known: <task>_merged, and <task>_mixed_<other>.

A good score finds, among the examples of one class, those of the test example's own group: the class it was before classes
were merged (subclasses, Hanawa et al. 2021), or the data set it comes from.
"""

import functools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from tda.data.kinds import ImageKind
from tda.data.pools import Pool
from tda.gradients.objectives import Classification
from tda.system.errors import UserError

if TYPE_CHECKING:
    from tda.data.tasks import Task

_MERGED = re.compile(r"(.+)_merged")
_MIXED = re.compile(r"(.+)_mixed_(.+)")
# The label of an example that belongs to no class of the task.
_NO_CLASS = -1


def recombined_of(name: str) -> tuple[str, ...] | None:
    """The name of the task that is merged, or those of the two that are mixed; None for other names."""
    match = _MIXED.fullmatch(name) or _MERGED.fullmatch(name)
    return None if match is None else match.groups()


@functools.cache
def merged(task: "Task", name: str) -> "Task":
    """The task with its classes merged two by two, in order (a last odd one stays alone); groups: the classes they were.

    Raises UserError for fewer than three classes, and for a task whose examples have no class.
    """
    if not isinstance(task.objective, Classification) or len(task.classes) < 3:
        raise UserError(f"task {name} cannot be: classes are merged two by two where each example has one of at least three")
    count = (len(task.classes) + 1) // 2
    names = tuple(" or ".join(task.class_names[2 * place : 2 * place + 2]) for place in range(count))

    def load(part: str) -> Pool:
        pool = task.load(part)
        places, own = _places(pool.labels, task.classes), np.array([*task.class_names, "other classes"])
        truth = None if pool.true_labels is None else _halved(_places(pool.true_labels, task.classes))
        groups = own[np.where(places < 0, len(task.class_names), places)]
        return replace(pool, labels=_halved(places), true_labels=truth, groups=groups)

    title = f"{task.title}, classes merged two by two"
    return replace(task, name=name, title=title, classes=tuple(range(count)), class_names=names, load=load)


def _places(labels: np.ndarray, classes: tuple[int, ...]) -> np.ndarray:
    """The place of each label (n,) among the classes; -1 for one that is none of them."""
    found = np.full(len(labels), _NO_CLASS, dtype=np.int64)
    for place, label in enumerate(classes):
        found[labels == label] = place
    return found


def _halved(places: np.ndarray) -> np.ndarray:
    return np.where(places < 0, _NO_CLASS, places // 2)


@functools.cache
def mixed(task: "Task", other: "Task", name: str) -> "Task":
    """A task whose classes hold as many images of another task's class of the same number; groups: the task they come from.

    The other's images are brought to this task's size and channels. Raises UserError where either has no images, or the other
    fewer classes.
    """
    if not all(isinstance(each.kind, ImageKind) and isinstance(each.objective, Classification) for each in (task, other)):
        raise UserError(f"task {name} cannot be: {task.name} and {other.name} are mixed where both have images of classes")
    if len(other.classes) < len(task.classes):
        raise UserError(f"task {name} cannot be: {other.name} has {len(other.classes)} classes, fewer than {task.name}")

    def load(part: str) -> Pool:
        pools = [task.load(part), other.load(part)]
        count = len(task.classes)
        places = (_places(pools[0].labels, task.classes), _places(pools[1].labels, other.classes[:count]))
        labels = np.concatenate(_as_many(*places, count))
        groups = np.repeat([task.name, other.name], [len(pool.labels) for pool in pools])
        files = None if any(pool.files is None for pool in pools) else [*pools[0].files, *pools[1].files]
        images = ImagesOfTwo(pools[0].examples, pools[1].examples, len(pools[0].labels), task.kind)
        return Pool(images, labels, files, groups=groups)

    title = f"{task.title}, mixed with {other.title}"
    return replace(task, name=name, title=title, classes=tuple(range(len(task.classes))), load=load)


def _as_many(left: np.ndarray, right: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Both places (n,) and (m,) with only the first examples of each class kept, as many of one as of the other."""
    kept = [np.full_like(places, _NO_CLASS) for places in (left, right)]
    for place in range(num_classes):
        own = [np.flatnonzero(places == place) for places in (left, right)]
        count = min(map(len, own))
        for places, positions in zip(kept, own, strict=True):
            places[positions[:count]] = place
    return kept[0], kept[1]


@dataclass(frozen=True)
class ImagesOfTwo:
    """Images of two pools one after another, by positions: (k, h, w, c) uint8 of the first's size and channels.

    count: how many the first has; kind: whose size and channels they get.
    """

    first: Any
    second: Any
    count: int
    kind: ImageKind

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        positions = np.asarray(positions)
        found = np.empty((len(positions), self.kind.size, self.kind.size, self.kind.channels), dtype=np.uint8)
        of_first = positions < self.count
        for images, rows, start in ((self.first, of_first, 0), (self.second, ~of_first, self.count)):
            if rows.any():
                found[rows] = _brought(np.asarray(images[positions[rows] - start]), self.kind)
        return found


def _brought(images: np.ndarray, kind: ImageKind) -> np.ndarray:
    """Images (k, h, w, c) uint8 at the kind's size and channels: grey is repeated, colours are averaged."""
    if images.shape[3] != kind.channels:
        grey = images.mean(axis=3, keepdims=True).round().astype(np.uint8)
        images = np.repeat(grey, kind.channels, axis=3)
    if images.shape[1:3] == (kind.size, kind.size):
        return images
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    sized = functional.interpolate(pixels, size=kind.size, mode="bilinear", antialias=True)
    return sized.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
