"""A matrix as a parquet file: a column of row indices, then a column of float32 for each of the matrix, and one entry of JSON.

pandas reads such a file, but its reader takes some thirty microseconds a column, 20 s for the files of a dozen methods. Columns
are therefore written plainly, each as one page of bare numbers (scores hardly compress): they lie at equal distances in the
file, and can be taken from it as one array. Where they lie is in the file's footer, whose reading takes longer than that of the
numbers; footers of one experiment differ in the entry alone, so that what was read of one holds for the next.
"""

import json
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tda.system.files import reading, write_atomically

_ENTRY = "tda"
_ENTRY_LENGTH = 2**12
"""Entries are filled up to a multiple of so many bytes, so that footers do not differ in length."""
_FORMAT = {"use_dictionary": False, "write_statistics": False, "compression": "none", "store_schema": False}
_TYPES = {"INT64": np.dtype("<i8"), "FLOAT": np.dtype("<f4")}
_LONGEST_HEAD = 40
"""Bytes before a page's numbers: enough for the head of one page, too few for that of a second in the same column."""
_FOOTER_END = 8
"""Bytes behind the footer: its length, and four letters."""


@dataclass(frozen=True)
class Matrix:
    """What a file holds: values (rows, columns) float32, indices of rows int64, names of columns, and the entry."""

    values: np.ndarray
    row_indices: np.ndarray
    names: Sequence[str]
    info: dict


@dataclass(frozen=True)
class _Place:
    """Where columns of a type lie: the first one's numbers, from one column's to the next one's, how many of each."""

    start: int
    distance: int
    columns: int
    rows: int
    dtype: np.dtype

    def of(self, content: bytes | mmap.mmap) -> np.ndarray:
        """The columns (columns, rows) in a file's bytes."""
        return np.ndarray((self.columns, self.rows), self.dtype, content, self.start, (self.distance, self.dtype.itemsize))


@dataclass(frozen=True)
class _Layout:
    """A footer, in its parts before and behind the entry, and what it says; places are None where columns are not plain."""

    before: bytes
    behind: bytes
    names: tuple[str, ...]
    indices: _Place | None
    values: _Place | None


_layouts: dict[int, _Layout] = {}
"""The last footer of each length that was read."""


def write_matrix(path: Path, index_name: str, matrix: Matrix) -> None:
    """Write a matrix atomically, its row indices in a column called `index_name`."""
    columns = {index_name: pa.array(np.asarray(matrix.row_indices, dtype=np.int64))}
    by_column = np.ascontiguousarray(matrix.values.T, dtype=np.float32)
    columns |= {name: pa.array(column) for name, column in zip(matrix.names, by_column, strict=True)}
    table, entry = pa.table(columns), json.dumps(matrix.info, sort_keys=True)

    def write(temporary: Path) -> None:
        # Metadata of the table's schema would be written a second time, in base64, as a part of that schema.
        with pq.ParquetWriter(temporary, table.schema, **_FORMAT) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({_ENTRY: entry + " " * (-len(entry) % _ENTRY_LENGTH)})

    write_atomically(path, write)


def read_info(path: Path) -> dict:
    """The JSON entry alone; raises as read_matrix does."""
    with reading(path):
        return json.loads(pq.read_metadata(path).metadata[_ENTRY.encode()])


def read_matrix(path: Path, mapped: bool = False) -> Matrix:
    """The whole file; whether its numbers are those that were written is the caller's to check.

    mapped: values are a view (rows, columns) of the file, read when they are looked at; columns lie together. A file of another
    program's, whose columns are not plain, is read as a whole either way.

    Raises UserError if it may not be read, FileNotFoundError, and pa.ArrowException, ValueError, TypeError or KeyError if it is
    not such a file.
    """
    with reading(path):
        content = _mapped(path) if mapped else path.read_bytes()
    layout, entry = _footer(content)
    if layout.indices is not None and layout.values is not None:
        indices, columns = layout.indices.of(content), layout.values.of(content)
    else:
        table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
        indices, *columns = (column.to_numpy()[None] for column in table.columns)
        columns = np.concatenate(columns)
    if indices.dtype != np.int64 or columns.dtype != np.float32:
        raise TypeError(f"{path} has columns of {indices.dtype} and {columns.dtype}")
    values = columns.T if mapped else np.ascontiguousarray(columns.T)
    return Matrix(values, indices[0], layout.names[1:], json.loads(entry))


def _mapped(path: Path) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _footer(content: bytes | mmap.mmap) -> tuple[_Layout, bytes]:
    """What a file's footer says, and its entry."""
    footer = content[-_FOOTER_END - int.from_bytes(content[-_FOOTER_END:-4], "little") :]
    known = _layouts.get(len(footer))
    if known is not None and footer.startswith(known.before) and footer.endswith(known.behind):
        return known, footer[len(known.before) : len(footer) - len(known.behind)]
    parquet = pq.read_metadata(pa.BufferReader(content))
    entry, names = parquet.metadata[_ENTRY.encode()], tuple(parquet.schema.names)
    before, _, behind = footer.partition(entry)
    layout = _Layout(before, behind, names, _place(parquet, 0, 1), _place(parquet, 1, len(names) - 1))
    _layouts[len(footer)] = layout
    return layout, entry


def _place(parquet: pq.FileMetaData, first: int, count: int) -> _Place | None:
    """Where columns lie that are pages of bare numbers at equal distances; None where they are not."""
    if parquet.num_row_groups != 1 or not count:
        return None
    group = parquet.row_group(0)
    one, other = group.column(first), group.column(first + count - 1)
    dtype = _TYPES.get(one.physical_type)
    plain = all(column.compression == "UNCOMPRESSED" and set(column.encodings) <= {"PLAIN", "RLE"} for column in (one, other))
    if not plain or dtype is None or other.physical_type != one.physical_type:
        return None
    distance = one.total_compressed_size
    head = distance - dtype.itemsize * parquet.num_rows
    if not 0 < head <= _LONGEST_HEAD or other.data_page_offset != one.data_page_offset + (count - 1) * distance:
        return None
    return _Place(one.data_page_offset + head, distance, count, parquet.num_rows, dtype)
