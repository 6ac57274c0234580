"""Balanced subsets: how they are drawn, written as text, read back, checked, and turned into tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tda.data.downloads import Pool
from tda.data.tasks import Task, task_named
from tda.experiments.folders import subset_file
from tda.system.errors import UserError
from tda.system.files import sha256, write_text

DRAW_SEED = 0


@dataclass(frozen=True)
class Split:
    """Examples resident in memory: images (n, c, h, w) float32 normalised, labels (n,) int64, indices (n,) int64.

    Labels count the task's classes from 0; indices are positions in the data set's own training or test part.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> "Split":
        """The same examples on a device, images (four dimensions) in a memory format; the indices stay on the CPU."""
        if self.images.dim() != 4:
            memory_format = torch.contiguous_format
        return Split(self.images.to(device).contiguous(memory_format=memory_format), self.labels.to(device), self.indices)

    def fingerprint(self) -> str:
        """SHA-256 of images, labels and indices."""
        tensors = (self.images.contiguous(), self.labels, self.indices)
        return sha256(*(tensor.cpu().numpy().tobytes() for tensor in tensors))

    def __len__(self) -> int:
        return len(self.labels)


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


def load_split(task_name: str, split: str, num_per_class: int | None = None) -> Split:
    """Read a drawn subset as tensors on the CPU; without `num_per_class` the task's test subset.

    Raises UserError for an unknown task, a missing or damaged data set, or a wrong index file.
    """
    task = task_named(task_name)
    pool = task.load(split)
    indices = read_subset(task, split, task.test_per_class if num_per_class is None else num_per_class, pool)
    return _as_split(task, pool, indices)


def split_of_indices(task: Task, split: str, path: Path) -> Split:
    """The examples that an index file of any size and balance names; raises UserError as read_indices does."""
    pool = task.load(split)
    return _as_split(task, pool, read_indices(path, task, split, pool))


def normalised(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Images (n, h, w, c) uint8 scaled to [0, 1], less mean, over std (one for each channel or for all): (n, c, h, w)."""
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32) / 255
    return ((scaled - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)).contiguous()


def _as_split(task: Task, pool: Pool, indices: np.ndarray) -> Split:
    position = {label: place for place, label in enumerate(task.classes)}
    labels = torch.tensor([position[label] for label in pool.labels[indices].tolist()])
    return Split(normalised(pool.images[indices], task.mean, task.std), labels, torch.from_numpy(indices))
