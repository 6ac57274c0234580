"""Images that come through the `datasets` library: by hub name, or from a folder of images or parquet files below data/."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tda.data.pools import Pool
from tda.experiments.folders import data_folder
from tda.system.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image


@dataclass(frozen=True)
class LibrarySource:
    """Where a task's images lie and how they are read.

    path: hub name "owner/name", or the name of a folder below data/, with images at <split>/<class>/<file> or with files
    <split>*.parquet; image_column, label_column: columns of the data set, which for folders of images are "image" and
    "label"; class_names: what the task keeps, by the data set's own names; images are brought to channels (1 or 3) and size.
    """

    path: str
    image_column: str
    label_column: str
    class_names: tuple[str, ...]
    channels: int
    image_size: int

    @property
    def folder(self) -> Path | None:
        """The local folder; None for a data set of the hub."""
        return None if "/" in self.path else data_folder() / self.path

    def pool(self, split: str) -> Pool:
        """All examples of the "train" or "test" part; the task's classes have the labels 0, 1, ..., others follow by name.

        Raises UserError if the data set cannot be had or read, or if a column or class is not in it.
        """
        dataset = self._load(split)
        for column in (self.image_column, self.label_column):
            if column not in dataset.column_names:
                raise UserError(
                    f"{self._where()} has no column {column}; its columns are {', '.join(dataset.column_names)}; "
                    f"name them in the task's entry in tda/data/tasks.py"
                )
        names = _label_names(dataset, self.label_column)
        present = sorted(set(names))
        for name in self.class_names:
            if name not in present:
                raise UserError(
                    f"the {split} part of {self._where()} has no examples of class {name}; its classes are {', '.join(present)}"
                )
        others = [name for name in present if name not in self.class_names]
        number = {name: label for label, name in enumerate([*self.class_names, *others])}
        return Pool(ImagesOnDemand(dataset, self), np.array([number[name] for name in names], dtype=np.int64))

    def _load(self, split: str) -> "Dataset":
        from datasets import disable_progress_bars, load_dataset

        if self.folder is not None and not self.folder.is_dir():
            raise UserError(f"{self.folder} is missing; put images there as {split}/<class>/<file>, or {split}.parquet")
        disable_progress_bars()
        try:
            return load_dataset(str(self.folder or self.path), split=split, cache_dir=str(data_folder() / ".datasets"))
        except Exception as error:  # the library raises errors of its own, of the hub's client and of pyarrow
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            mend = "mend the folder" if self.folder else "run once with a network, so that it is cached"
            raise UserError(f"the {split} part of {self._where()} cannot be read: {reason}; {mend}") from error

    def _where(self) -> str:
        return str(self.folder) if self.folder else f"the hub's data set {self.path}"


class ImagesOnDemand:
    """Images that are decoded when they are asked for: indexing by positions (n,) gives (n, h, w, c) uint8."""

    def __init__(self, dataset: "Dataset", source: LibrarySource) -> None:
        from datasets import Image

        self.dataset = dataset.select_columns([source.image_column]).cast_column(source.image_column, Image())
        self.source = source

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        return np.stack([self._decoded(int(position)) for position in positions])

    def _decoded(self, position: int) -> np.ndarray:
        try:
            image: Image = self.dataset[position][self.source.image_column]
            image = image.convert("L" if self.source.channels == 1 else "RGB")
        except (OSError, ValueError, SyntaxError, AttributeError) as error:
            raise UserError(f"image {position} of {self.source._where()} cannot be decoded; mend or remove it") from error
        size = (self.source.image_size, self.source.image_size)
        if image.size != size:
            # Pillow's bilinear filter averages over what it shrinks; it draws nothing at random.
            image = image.resize(size, resample=2)
        return np.asarray(image).reshape(*size, self.source.channels)


def _label_names(dataset: "Dataset", column: str) -> list[str]:
    from datasets import ClassLabel

    values, feature = dataset[column][:], dataset.features[column]
    return [feature.int2str(value) if isinstance(feature, ClassLabel) else str(value) for value in values]
