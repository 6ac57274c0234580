"""Texts of a folder below data/, in files of several forms, or of the hub, through the `datasets` library."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tda.data.picture_folders import printable
from tda.data.picture_tables import label_names
from tda.data.pools import Pool
from tda.data.text_files import TextTable, text_table
from tda.experiments.folders import data_folder
from tda.system.errors import UserError, in_one_line


@dataclass(frozen=True)
class TextSource:
    """Where a task's texts lie and how they are read.

    path: the name of a folder below data/ (see text_files.text_table for its files), or a hub name "owner/name". columns: of
    the text, or of the two texts of a pair. label_column: class names or numbers; None where all texts are of one class.
    class_names: what the task keeps, by the data set's own names. facts_column: the facts that each text states, as texts.
    test_part: what the data set calls its test part. hub: the data set of the hub, "owner/name" or "owner/name:subset", that is
    read where the folder is missing.
    """

    path: str
    columns: tuple[str, ...]
    label_column: str | None
    class_names: tuple[str, ...]
    facts_column: str | None = None
    test_part: str = "test"
    hub: str | None = None

    def pool(self, split: str) -> Pool:
        """All texts of the "train" or "test" part; the task's classes have the labels 0, 1, ..., others follow by name.

        Examples are texts (n,), or a pair of such arrays. Raises UserError if the data set cannot be had or read, or if a
        column or class is not in it.
        """
        table = self._table(self.test_part if split == "test" else split)
        texts = tuple(np.array(table.texts(column), dtype=object) for column in self.columns)
        names = [self.class_names[0]] * len(texts[0]) if self.label_column is None else table.names(self.label_column)
        facts = None if self.facts_column is None else table.tuples(self.facts_column)
        present, wanted = sorted(set(names)), [printable(name) for name in self.class_names]
        for name in wanted:
            if name not in present:
                raise UserError(
                    f"the {split} part, {table.where}, has no texts of class {name}; its classes are {', '.join(present)}: "
                    "add texts, or name its classes as the task's class_names"
                )
        number = {name: label for label, name in enumerate([*wanted, *(name for name in present if name not in wanted)])}
        labels = np.array([number[name] for name in names], dtype=np.int64)
        return Pool(texts if len(texts) > 1 else texts[0], labels, list(table.rows), facts=facts)

    def _table(self, part: str) -> TextTable:
        folder = data_folder() / self.path
        if "/" in self.path:
            return _hub_table(self.path, part, self._wanted, "run once with a network, so that it is cached")
        if self.hub is None or folder.exists():
            return text_table(folder, part, data_folder())
        return _hub_table(self.hub, part, self._wanted, _mend(folder, part))

    @property
    def _wanted(self) -> list[str]:
        return [column for column in (*self.columns, self.label_column, self.facts_column) if column is not None]


def _mend(folder: Path, part: str) -> str:
    return f"run once with a network, so that it is cached, or put {part}.parquet into {folder}"


def _hub_table(name: str, part: str, wanted: Sequence[str], mend: str) -> TextTable:
    from datasets import ClassLabel, disable_progress_bars, load_dataset

    path, _, subset = name.partition(":")
    where = f"the hub's data set {name}"
    disable_progress_bars()
    try:
        dataset = load_dataset(path, subset or None, split=part, cache_dir=str(data_folder() / ".datasets"))
    except Exception as error:  # the library raises errors of its own, of the hub's client and of pyarrow
        reason = in_one_line(error)
        raise UserError(f"the {part} part of {where} cannot be read: {reason}; {mend}") from error
    columns = {}
    for column in dataset.column_names:
        is_label = isinstance(dataset.features[column], ClassLabel)
        if column in wanted:
            columns[column] = label_names(dataset, column, where) if is_label else dataset[column][:]
        else:
            columns[column] = ()
    return TextTable(columns, [f"{name}, {part}, row {row}" for row in range(len(dataset))], where)
