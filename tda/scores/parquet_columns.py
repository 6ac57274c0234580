"""A matrix as a parquet file: a column of row indices, then a column of float32 for each of the matrix, and one entry of JSON.

pandas reads such a file, but its reader takes some thirty microseconds a column, 20 s for the files of a dozen methods. Columns
are therefore written plainly, each as one page of bare numbers (scores hardly compress): they lie at equal distances in the
file, and can be taken from it as one array.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tda.system.files import reading, write_atomically

_ENTRY = "tda"
_FORMAT = {"use_dictionary": False, "write_statistics": False, "compression": "none"}
_PHYSICAL_TYPES = {"INT64": np.dtype("<i8"), "FLOAT": np.dtype("<f4")}
_LONGEST_HEAD = 40
"""Bytes before a page's numbers: enough for the head of one page, too few for that of a second in the same column."""


@dataclass(frozen=True)
class Matrix:
    """What a file holds: values (rows, columns) float32, the rows' indices int64, the columns' names, and the JSON entry."""

    values: np.ndarray
    row_indices: np.ndarray
    names: list[str]
    info: dict


def write_matrix(path: Path, index_name: str, matrix: Matrix) -> None:
    """Write a matrix atomically, its row indices in a column called `index_name`."""
    columns = {index_name: pa.array(np.asarray(matrix.row_indices, dtype=np.int64))}
    by_column = np.ascontiguousarray(matrix.values.T, dtype=np.float32)
    columns |= {name: pa.array(column) for name, column in zip(matrix.names, by_column, strict=True)}
    table = pa.table(columns).replace_schema_metadata({_ENTRY: json.dumps(matrix.info, sort_keys=True)})
    write_atomically(path, partial(pq.write_table, table, **_FORMAT))


def read_info(path: Path) -> dict:
    """The JSON entry alone; raises as read_matrix does."""
    with reading(path):
        return _info(pq.read_metadata(path))


def read_matrix(path: Path) -> Matrix:
    """The whole file; whether its numbers are those that were written is the caller's to check.

    Raises UserError if it may not be read, FileNotFoundError, and pa.ArrowException, ValueError, TypeError or KeyError if it is
    not such a file.
    """
    with reading(path):
        content = path.read_bytes()
    parquet = pq.read_metadata(pa.BufferReader(content))
    names = parquet.schema.names
    indices, columns = _plain_columns(content, parquet, [0]), _plain_columns(content, parquet, range(1, len(names)))
    if indices is None or columns is None:
        table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
        indices, *columns = (column.to_numpy()[None] for column in table.columns)
        columns = np.concatenate(columns)
    if indices.dtype != np.int64 or columns.dtype != np.float32:
        raise TypeError(f"{path} has columns of {indices.dtype} and {columns.dtype}")
    return Matrix(np.ascontiguousarray(columns.T), indices[0], names[1:], _info(parquet))


def _info(parquet: pq.FileMetaData) -> dict:
    return json.loads(parquet.metadata[_ENTRY.encode()])


def _plain_columns(content: bytes, parquet: pq.FileMetaData, places: range | list[int]) -> np.ndarray | None:
    """Columns (n, rows) as they lie in the file, or None where they are not pages of bare numbers at equal distances."""
    if parquet.num_row_groups != 1 or not places:
        return None
    group = parquet.row_group(0)
    first, last = group.column(places[0]), group.column(places[-1])
    plain = all(column.compression == "UNCOMPRESSED" and set(column.encodings) <= {"PLAIN", "RLE"} for column in (first, last))
    dtype = _PHYSICAL_TYPES.get(first.physical_type)
    if not plain or dtype is None or last.physical_type != first.physical_type:
        return None
    distance, start = first.total_compressed_size, first.data_page_offset
    head = distance - dtype.itemsize * parquet.num_rows
    if not 0 < head <= _LONGEST_HEAD or last.data_page_offset != start + (len(places) - 1) * distance:
        return None
    shape = (len(places), parquet.num_rows)
    return np.ndarray(shape, dtype, content, start + head, (distance, dtype.itemsize))
