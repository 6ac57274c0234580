"""Images of a folder below data/, in class folders or in parquet files, or of the hub, through the `datasets` library."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tda.data.groups import group_names, groups_of_files
from tda.data.picture_folders import PicturesOnDemand, pictures_in, printable
from tda.data.picture_tables import RowsOnDemand, check_pictures, count_rows, label_names, parquet_files, paths_kept
from tda.data.pools import Pool
from tda.experiments.folders import data_folder
from tda.system.errors import UserError, in_one_line
from tda.system.files import reading_folder

if TYPE_CHECKING:
    from datasets import Dataset

_FOLDER_COLUMNS = ("image", "label")


@dataclass(frozen=True)
class LibrarySource:
    """Where a task's images lie and how they are read.

    path: hub name "owner/name", or the name of a folder below data/, with images at <split>/<class>/<file> or with files
    <split>*.parquet; image_column, label_column: columns of the data set, which for folders of images are "image" and
    "label"; class_names: what the task keeps, by the data set's own names; images are brought to channels (1 or 3) and size.
    group_column: column of the data set with the group of each example; folders of images have their groups in a file
    groups.csv (columns file and group), which is read where it is there.
    """

    path: str
    image_column: str
    label_column: str
    class_names: tuple[str, ...]
    channels: int
    image_size: int
    group_column: str | None = None

    @property
    def folder(self) -> Path | None:
        """The local folder; None for a data set of the hub."""
        return None if "/" in self.path else data_folder() / self.path

    def pool(self, split: str) -> Pool:
        """All examples of the "train" or "test" part; the task's classes have the labels 0, 1, ..., others follow by name.

        Raises UserError if the data set cannot be had or read, or if a column or class is not in it.
        """
        if self.folder is not None and self._is_class_folders(split):
            examples, names, files, groups = self._pictures(split)
        else:
            examples, names, files, groups = self._rows(split)
        present, wanted = sorted(set(names)), [printable(name) for name in self.class_names]
        for name in wanted:
            if name not in present:
                raise UserError(
                    f"the {split} part of {self.where} has no examples of class {name}; its classes are {', '.join(present)}: "
                    "add examples, or name its classes as the task's class_names, in tda/data/tasks.py or in a file of tasks/"
                )
        number = {name: label for label, name in enumerate([*wanted, *(name for name in present if name not in wanted)])}
        return Pool(examples, np.array([number[name] for name in names], dtype=np.int64), files, groups=groups)

    @property
    def where(self) -> str:
        """The data set in words."""
        return str(self.folder) if self.folder else f"the hub's data set {self.path}"

    def _is_class_folders(self, split: str) -> bool:
        """Whether a part lies in class folders rather than in parquet files; raises UserError if in neither or in both."""
        try:
            with reading_folder(self.folder):
                names = {entry.name for entry in self.folder.iterdir()}
        except FileNotFoundError as error:
            raise UserError(
                f"{self.folder} is missing; put images there as {split}/<class>/<file>, or {split}.parquet"
            ) from error
        has_folder, parquet = split in names, parquet_files(self.folder, split)
        if has_folder and parquet:
            raise UserError(f"{self.folder} holds the folder {split} and {parquet[0].name} too; move one of them away")
        if not has_folder and not parquet:
            raise UserError(
                f"the {split} part of {self.folder} cannot be read: it holds neither a folder {split} nor a file "
                f"{split}.parquet; put images there as {split}/<class>/<file>"
            )
        return has_folder

    def _pictures(self, split: str) -> tuple[PicturesOnDemand, Sequence[str], list[str], np.ndarray | None]:
        for column in (self.image_column, self.label_column):
            if column not in _FOLDER_COLUMNS:
                raise UserError(self._no_column(column, _FOLDER_COLUMNS))
        found = pictures_in(self.folder / split)
        files = [printable(path.relative_to(data_folder())) for path in found.paths]
        names = [f"{printable(path.relative_to(self.folder))} of {self.folder}" for path in found.paths]
        groups = groups_of_files(self.folder, found.paths, needed=self.group_column is not None)
        return PicturesOnDemand(found.paths, names, self.channels, self.image_size), found.class_names, files, groups

    def _rows(self, split: str) -> tuple[RowsOnDemand, list[str], list[str] | None, np.ndarray | None]:
        dataset = self._load(split)
        for column in filter(None, (self.image_column, self.label_column, self.group_column)):
            if column not in dataset.column_names:
                raise UserError(self._no_column(column, dataset.column_names))
        check_pictures(dataset, self.image_column, self.where)
        names = label_names(dataset, self.label_column, self.where)
        files = self._files_of_rows(dataset, split)
        groups = None if self.group_column is None else group_names(dataset, self.group_column, self.where)
        table = dataset.select_columns([self.image_column])
        return RowsOnDemand(table, self.where, self.folder is None, self.channels, self.image_size), names, files, groups

    def _load(self, split: str) -> "Dataset":
        from datasets import disable_progress_bars, load_dataset

        path, files = self.path, None
        if self.folder is not None:
            path, files = "parquet", {split: [str(file) for file in parquet_files(self.folder, split)]}
            for file in files[split]:
                if not count_rows(Path(file)):
                    raise UserError(f"{file} holds no rows; fill or remove it")
        disable_progress_bars()
        try:
            return load_dataset(path, data_files=files, split=split, cache_dir=str(data_folder() / ".datasets"))
        except Exception as error:  # the library raises errors of its own, of the hub's client and of pyarrow
            reason = in_one_line(error)
            mend = "mend the folder" if self.folder else "run once with a network, so that it is cached"
            raise UserError(f"the {split} part of {self.where} cannot be read: {reason}; {mend}") from error

    def _files_of_rows(self, dataset: "Dataset", split: str) -> list[str] | None:
        """What each row says of its file, and of a local one else its parquet file and row; None where neither is known."""
        kept = paths_kept(dataset, self.image_column)
        if self.folder is None:
            return kept if kept and all(kept) else None
        files = parquet_files(self.folder, split)
        rows = [(printable(file.relative_to(data_folder())), row) for file in files for row in range(count_rows(file))]
        said = kept or [None] * len(rows)
        return [f"{file}: {path}" if path else f"{file}, row {row}" for (file, row), path in zip(rows, said, strict=True)]

    def _no_column(self, column: str, columns: Sequence[str]) -> str:
        return f"{self.where} has no column {column}; its columns are {', '.join(columns)}; name them in the task's entry"
