"""Splits: the drawn examples of a task as tensors, whatever their kind."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tda.data.index_files import read_indices, read_subset
from tda.data.pools import Pool
from tda.data.tasks import Task
from tda.system.devices import image_format
from tda.system.files import sha256
from tda.system.inputs import Inputs, batches_of, cast, chosen, device_of, mapped


@dataclass(frozen=True)
class Split:
    """Examples resident in memory: inputs (n, ...), labels (n, ...) int64, indices (n,) int64.

    inputs: a tensor, or a dict of tensors by the names of the model's arguments. Labels are what the task's objective takes:
    of a classifier they count the task's classes from 0. Indices are positions in the data set's own training or test part.
    files: what leads a person to each example, (n,) str, as Pool.files says; None where examples have no files of their own.
    true_labels: the classes that the examples are truly of, (n,) int64 counted as the task counts, -1 for none of the task's;
    groups: the group of each example, (n,) str; facts: what each text states, (n,) of tuples of str. All three are None where
    nothing is known of them, and no model sees them. asked: the name of the fact that each test example asks for, (n,) of str
    or None; its labels count the answer's tokens alone. None where no example asks for one.
    """

    inputs: Inputs
    labels: Tensor
    indices: Tensor
    files: np.ndarray | None = None
    true_labels: Tensor | None = None
    groups: np.ndarray | None = None
    facts: np.ndarray | None = None
    asked: np.ndarray | None = None

    def to(self, device: torch.device) -> "Split":
        """The same examples on a device, pictures (four dimensions) as its kernels take them; the indices stay on the CPU."""

        def placed(part: Tensor) -> Tensor:
            memory_format = image_format(device) if part.dim() == 4 else torch.contiguous_format
            return part.to(device).contiguous(memory_format=memory_format)

        truth = None if self.true_labels is None else self.true_labels.to(device)
        return replace(self, inputs=mapped(self.inputs, placed), labels=self.labels.to(device), true_labels=truth)

    def cast(self, dtype: torch.dtype) -> "Split":
        """The same examples with floating inputs in another precision; token ids and masks stay as they are."""
        return replace(self, inputs=cast(self.inputs, dtype))

    def batches(self, size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """Inputs and labels of `size` examples at a time, in order."""
        return zip(batches_of(self.inputs, size), self.labels.split(size), strict=True)

    @property
    def device(self) -> torch.device:
        """Where the examples lie."""
        return device_of(self.inputs)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of inputs, labels and indices: of all that a model is trained on."""
        named = self.inputs.items() if isinstance(self.inputs, dict) else [("", self.inputs)]
        parts = [piece for name, part in sorted(named) for piece in (name.encode(), _content(part))]
        return sha256(*parts, _content(self.labels), _content(self.indices))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, positions: slice | Tensor | Sequence[int]) -> "Split":
        """The examples at the given positions, in their order."""
        on_cpu = positions.cpu() if isinstance(positions, Tensor) else positions
        columns = (self.files, self.groups, self.facts, self.asked)
        files, groups, facts, asked = (None if column is None else column[on_cpu] for column in columns)
        truth = None if self.true_labels is None else self.true_labels[positions]
        of_models = (chosen(self.inputs, positions), self.labels[positions], self.indices[on_cpu])
        return Split(*of_models, files, truth, groups, facts, asked)


def load_split(task: Task, part: str, num_per_class: int | None = None) -> Split:
    """Read a drawn subset of the task's "train" or "test" part, on the CPU; without `num_per_class` the task's test subset.

    Raises UserError for a missing or damaged data set, or a wrong index file.
    """
    pool = task.load(part)
    indices = read_subset(task, part, task.test_per_class if num_per_class is None else num_per_class, pool)
    return _as_split(task, part, pool, indices)


def load_whole(task: Task, part: str) -> Split:
    """Every example of the task's classes in its "train" or "test" part, in the part's order; raises as load_split does."""
    pool = task.load(part)
    return _as_split(task, part, pool, np.flatnonzero(np.isin(pool.labels, task.classes)))


def split_of_indices(task: Task, part: str, path: Path) -> Split:
    """The examples that an index file of any size and balance names; raises UserError as read_indices does."""
    pool = task.load(part)
    return _as_split(task, part, pool, read_indices(path, task, part, pool))


def _as_split(task: Task, part: str, pool: Pool, indices: np.ndarray) -> Split:
    position = {label: place for place, label in enumerate(task.classes)}
    classes = torch.tensor([position[label] for label in pool.labels[indices].tolist()])
    truth, groups = pool.true_labels, pool.groups
    if truth is not None:
        truth = torch.tensor([position.get(label, -1) for label in np.asarray(truth)[indices].tolist()])
    if groups is not None:
        groups = np.asarray(groups, dtype=str)[indices]
    inputs = task.kind.inputs(pool.examples_at(indices))
    labels = task.objective.labels(inputs, classes)
    columns = (pool.files_at(indices), truth, groups, pool.facts_at(indices))
    if part == "test" and pool.asked is not None:
        labels, asked = _of_answers(task, pool, indices, labels)
        columns = (*columns, asked)
    return Split(inputs, labels, torch.from_numpy(indices), *columns)


def _of_answers(task: Task, pool: Pool, indices: np.ndarray, labels: Tensor) -> tuple[Tensor, np.ndarray]:
    """Labels that count the answers' tokens alone, and the names of the facts (n,) that are asked for.

    A text that asks for nothing, or whose answer was cut off, counts as a whole, and its name is None.
    """
    asked = np.array([pool.asked[index] for index in indices], dtype=object)
    names = np.array([None if each is None else each.fact for each in asked], dtype=object)
    placed = np.flatnonzero([each is not None and each.place is not None for each in asked])
    if len(placed):
        inside = task.kind.within(pool.examples_at(indices[placed]), [each.place for each in asked[placed]])
        answers = labels[placed].masked_fill(~inside, -100)
        whole = (answers >= 0).any(dim=1)
        names[placed[~whole.numpy()]] = None
        labels = labels.clone()
        labels[placed] = torch.where(whole[:, None], answers, labels[placed])
    return labels, names


def _content(tensor: Tensor) -> bytes:
    return tensor.contiguous().cpu().numpy().tobytes()
