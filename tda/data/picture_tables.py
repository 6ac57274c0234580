"""Tables of pictures, in parquet files or from the hub: their rows, their labels, and what is no picture."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tda.data.picture_folders import printable
from tda.data.pictures import decoded
from tda.system.errors import UserError
from tda.system.files import reading, reading_folder

if TYPE_CHECKING:
    from datasets import Dataset


class RowsOnDemand:
    """Images of a data set's rows, decoded when they are asked for: indexing by positions (n,) gives (n, h, w, c) uint8."""

    def __init__(self, dataset: "Dataset", where: str, follow_paths: bool, channels: int, size: int) -> None:
        """dataset: of one column; where: the data set in words; follow_paths: open files that rows name instead of holding."""
        from datasets import Image

        (self.column,) = dataset.column_names
        self.dataset = dataset.cast_column(self.column, Image(decode=False))
        self.where, self.follow_paths, self.channels, self.size = where, follow_paths, channels, size

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        names = [f"in row {position} of {self.where}" for position in positions]
        return decoded((self._content(int(position)) for position in positions), names, self.channels, self.size)

    def _content(self, position: int) -> bytes | Path:
        picture = self.dataset[position][self.column] or {}
        if picture.get("bytes") is not None:
            return picture["bytes"]
        # The hub's folders of images come as paths into the library's cache; a path in a local table may point anywhere.
        if picture.get("path") and self.follow_paths:
            return Path(picture["path"])
        raise UserError(f"row {position} of {self.where} holds no picture in column {self.column}; remove it")


def parquet_files(folder: Path, split: str) -> list[Path]:
    """A folder's <split>.parquet, or <split>-00000-of-00002.parquet and the like, also in its folder data/.

    Raises UserError for pieces of which one is missing or there twice, as beside the whole file.
    """
    name = re.compile(rf"{re.escape(split)}(-(\d+)-of-(\d+)(-[0-9a-f]+)?)?\.parquet", re.IGNORECASE)
    with reading_folder(folder):
        below = [each for each in (folder, folder / "data") if each.is_dir()]
        found = {path: match for each in below for path in each.iterdir() if (match := name.fullmatch(path.name))}
    # A whole file is piece 0 of 1. Programs count pieces from 0 or from 1.
    pieces = sorted((int(match[2] or 0), int(match[3] or 1)) for match in found.values())
    if not any(pieces == [(first + number, len(pieces)) for number in range(len(pieces))] for first in (0, 1)):
        held = ", ".join(sorted(printable(path.relative_to(folder)) for path in found))
        raise UserError(
            f"{folder} holds {held}, neither one {split}.parquet nor each of its pieces once; add what is missing, or move "
            "away what is there twice"
        )
    return sorted(found)


def count_rows(path: Path) -> int:
    """Rows of a parquet file; raises UserError if it is unreadable or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with reading(path):
            return pq.read_metadata(path).num_rows
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is not a whole parquet file; write or download it again") from error


def check_pictures(dataset: "Dataset", column: str, where: str) -> None:
    """Raise UserError unless a column holds picture files: bytes, alone or beside a path."""
    import pyarrow as pa

    kind = dataset.data.schema.field(column).type
    is_pair = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if not (is_pair or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise UserError(
            f"column {column} of {where} holds {kind}, not pictures; write them as the bytes of PNG or JPEG files, or name "
            f"another column in the task's entry"
        )


def paths_kept(dataset: "Dataset", column: str) -> list[str | None] | None:
    """The name of its file that each row of a column of pictures keeps; None where the column keeps none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = dataset.data.schema.field(column).type
    if not pa.types.is_struct(kind) or kind.get_field_index("path") < 0:
        return None
    paths = pc.struct_field(dataset.data.column(column), "path").to_pylist()
    return [printable(path) if path else None for path in paths]


def label_names(dataset: "Dataset", column: str, where: str) -> list[str]:
    """Each row's class by name, "unlabelled" for the hub's -1; raises UserError for what is no name and no whole number."""
    from datasets import ClassLabel

    values, feature = dataset[column][:], dataset.features[column]
    for row, value in enumerate(values):
        if not isinstance(value, str | int):
            held = "no label" if value is None else f"a {type(value).__name__}"
            raise UserError(f"row {row} of {where} holds {held} in column {column}; labels are class names or whole numbers")
    if not isinstance(feature, ClassLabel):
        return [str(value) for value in values]
    return [feature.int2str(value) if value >= 0 else "unlabelled" for value in values]
