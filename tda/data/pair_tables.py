"""Pictures with texts that describe them: tables below data/, or of the hub, one example a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tda.data.picture_folders import PicturesOnDemand, printable
from tda.data.pools import Pool
from tda.data.text_files import TextTable, text_table
from tda.experiments.folders import data_folder
from tda.system.errors import UserError, in_one_line
from tda.system.files import sha256


@dataclass(frozen=True)
class PairSource:
    """Where a task's pairs lie and how they are read.

    path: the name of a folder below data/ that holds <part>.parquet, .csv or .jsonl. image_column: a picture file's bytes
    (alone, or as the hub keeps them, beside a path), or the path of a picture from the folder. caption_column: a text, or a
    list of texts, of each picture; where there is no such column, columns of its name without the last s that are numbered from
    0 (caption_0, caption_1, ...). Several rows of one picture's path are several texts of it. caption: which of a picture's
    texts makes the pair, counted from 0. hub: "owner/name" of the hub, read where the folder is missing. Pictures are brought
    to channels (1 or 3) and size.
    """

    path: str
    image_column: str
    caption_column: str
    caption: int
    channels: int
    size: int
    hub: str | None = None

    def pool(self, part: str) -> Pool:
        """All pairs of the "train" or "test" part, of one class: examples are (pictures, texts (n,)).

        Raises UserError, which names the row, if the data cannot be had or read, a column is missing, or a picture has too few
        texts or an empty one.
        """
        folder = data_folder() / self.path
        if self.hub is None or folder.exists():
            table = text_table(folder, part, data_folder())
        else:
            table = _hub_table(self.hub, part, folder)
        sources = [self._source(folder, table, row) for row in range(len(table.rows))]
        captions = self._captions(table)
        first = _first_rows(sources)
        texts = []
        for rows in first.values():
            own = [text for row in rows for text in captions[row]]
            if len(own) <= self.caption:
                raise UserError(
                    f"{table.rows[rows[0]]} has {len(own)} texts, so that there is no text {self.caption}; add some"
                )
            texts.append(own[self.caption])
        rows = [rows[0] for rows in first.values()]
        names = [self._name(table, row) for row in rows]
        said = [f"of {name}" for name in names]
        pictures = PicturesOnDemand([sources[row] for row in rows], said, self.channels, self.size)
        return Pool((pictures, np.array(texts, dtype=object)), np.zeros(len(rows), dtype=np.int64), names)

    def _source(self, folder: Path, table: TextTable, row: int) -> bytes | Path:
        value = table.column(self.image_column)[row]
        if isinstance(value, dict) and value.get("bytes") is not None:
            value = value["bytes"]
        if isinstance(value, bytes):
            return value
        if isinstance(value, str) and value:
            return folder / value
        # The hub's folders of pictures come as paths into the library's cache; a path in a local table may point anywhere.
        if isinstance(value, dict) and value.get("path") and table.where.startswith("the hub"):
            return Path(value["path"])
        raise UserError(f"{table.rows[row]} holds no picture in column {self.image_column}; mend or remove it")

    def _captions(self, table: TextTable) -> list[tuple[str, ...]]:
        """The texts of each row, without white space around them."""
        if self.caption_column in table.columns:
            found = table.tuples(self.caption_column)
        else:
            stem, names = self.caption_column.removesuffix("s"), []
            while f"{stem}_{len(names)}" in table.columns:
                names.append(f"{stem}_{len(names)}")
            if not names:
                table.column(self.caption_column)
            found = list(zip(*(table.texts(name) for name in names), strict=True))
        for row, texts in zip(table.rows, found, strict=True):
            if not all(text.strip() for text in texts):
                raise UserError(f"{row} holds an empty text in column {self.caption_column}; fill or remove it")
        return [tuple(text.strip() for text in texts) for texts in found]

    def _name(self, table: TextTable, row: int) -> str:
        value = table.column(self.image_column)[row]
        said = value.get("path") if isinstance(value, dict) else None
        if isinstance(value, str):
            said = value
        return f"{table.rows[row]}: {printable(said)}" if said else table.rows[row]


def _first_rows(sources: Sequence[bytes | Path]) -> dict[object, list[int]]:
    """The rows of each picture, in the order in which the pictures first come; the same bytes are the same picture."""
    found: dict[object, list[int]] = {}
    for row, source in enumerate(sources):
        found.setdefault(source if isinstance(source, Path) else sha256(source), []).append(row)
    return found


def _hub_table(name: str, part: str, folder: Path) -> TextTable:
    from datasets import Image, disable_progress_bars, load_dataset

    where = f"the hub's data set {name}"
    disable_progress_bars()
    try:
        dataset = load_dataset(name, split=part, cache_dir=str(data_folder() / ".datasets"))
        for column, feature in dataset.features.items():
            if isinstance(feature, Image):
                dataset = dataset.cast_column(column, Image(decode=False))
        columns = {column: dataset[column][:] for column in dataset.column_names}
    except Exception as error:  # the library raises errors of its own, of the hub's client and of pyarrow
        reason = in_one_line(error)
        raise UserError(
            f"the {part} part of {where} cannot be read: {reason}; run once with a network, so that it is cached, or put "
            f"{part}.parquet into {folder}"
        ) from error
    return TextTable(columns, [f"{name}, {part}, row {row}" for row in range(len(dataset))], where)
