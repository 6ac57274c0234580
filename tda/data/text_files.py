"""Texts in files: parquet, csv, jsonl, one text a line or a file; their columns, and what is no text."""

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tda.data.picture_folders import printable
from tda.data.picture_tables import count_rows, parquet_files
from tda.system.errors import UserError, in_one_line
from tda.system.files import reading, reading_folder

TEXT, CLASS = "text", "class"
"""The columns of plain texts: the text itself, and the name of its folder where texts lie in folders of their classes."""

Result = TypeVar("Result")

_LONGEST_CELL = 2**27
_HALF_OF_A_LETTER = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class TextTable:
    """Columns by name, all of one length, and what leads a person to each row; where: the table in words."""

    columns: dict[str, Sequence[object]]
    rows: Sequence[str]
    where: str

    def column(self, name: str) -> Sequence[object]:
        """A column; raises UserError, which lists the columns, if there is none of this name."""
        if name not in self.columns:
            raise UserError(
                f"{self.where} has no column {name}; its columns are {', '.join(self.columns)}; name them in the task's entry"
            )
        return self.columns[name]

    def texts(self, name: str) -> list[str]:
        """A column of texts; raises UserError, which names the row, for what is empty or no text."""
        values = self.column(name)
        for row, value in zip(self.rows, values, strict=True):
            if not isinstance(value, str):
                held = "nothing" if value is None else f"a {type(value).__name__}"
                raise UserError(f"{row} holds {held} in column {name}, not a text; mend or remove it")
            if not value.strip():
                raise UserError(f"{row} holds an empty text in column {name}; fill or remove it")
            _refuse_half_letters(value, row, name)
        return list(values)

    def names(self, name: str) -> list[str]:
        """A column of class names or numbers as text; raises UserError, which names the row, for anything else."""
        values = self.column(name)
        for row, value in zip(self.rows, values, strict=True):
            if not isinstance(value, str | int) or value == "":
                held = "no label" if value in (None, "") else f"a {type(value).__name__}"
                raise UserError(f"{row} holds {held} in column {name}; labels are class names or whole numbers")
        return [printable(str(value)) for value in values]

    def tuples(self, name: str) -> list[tuple[str, ...]]:
        """A column of lists of texts, or of single ones; nothing is the empty tuple. Raises UserError, which names the row."""
        found = []
        for row, value in zip(self.rows, self.column(name), strict=True):
            parts = [value] if isinstance(value, str) else [] if value is None else value
            if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
                raise UserError(f"{row} holds a {type(value).__name__} in column {name}, not a list of texts; mend it")
            for part in parts:
                _refuse_half_letters(part, row, name)
            found.append(tuple(parts))
        return found


def _refuse_half_letters(text: str, row: str, column: str) -> None:
    if _HALF_OF_A_LETTER.search(text):
        raise UserError(f"{row} holds half of a letter, a lone surrogate, in column {column}; mend or remove it")


def text_table(folder: Path, part: str, root: Path) -> TextTable:
    """The table of one part of a folder: <part>.parquet (or its pieces), .csv, .jsonl or .txt, or a folder of .txt files.

    root: what the rows' paths are told from. Raises UserError if there is none of these or more than one, or if it cannot be
    read or has no rows.
    """
    try:
        with reading_folder(folder):
            names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    except FileNotFoundError as error:
        raise UserError(f"{folder} is missing; put {_forms(part)} there") from error
    tables = {f"{part}.csv": _csv, f"{part}.jsonl": _jsonl, f"{part}.txt": _lines, part: _folder}
    found = [(folder / name, read) for name, read in tables.items() if name in names]
    pieces = parquet_files(folder, part)
    if len(found) + bool(pieces) > 1:
        named = [path.name for path, _ in found] + [path.name for path in pieces[:1]]
        raise UserError(f"{folder} holds {named[0]} and {named[1]} too; move one of them away")
    if not found and not pieces:
        raise UserError(f"the {part} part of {folder} cannot be read: it holds neither of {_forms(part)}; put one there")
    if pieces:
        return _filled(_parquet(pieces, root))
    path, read = found[0]
    return _filled(read(path, printable(path.relative_to(root))))


def text_file(path: Path) -> TextTable:
    """The table of one file of these forms, whatever stands beside it; raises UserError if it cannot be read or has no rows."""
    if path.suffix == ".parquet":
        return _filled(_parquet([path], path.parent))
    return _filled({".csv": _csv, ".jsonl": _jsonl, ".txt": _lines}[path.suffix](path, printable(path.name)))


def _filled(table: TextTable) -> TextTable:
    if not table.rows:
        raise UserError(f"{table.where} holds no rows; fill it")
    return table


def _forms(part: str) -> str:
    return f"{part}.parquet, {part}.csv, {part}.jsonl, {part}.txt or a folder {part} of .txt files"


def _parquet(pieces: list[Path], root: Path) -> TextTable:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables, rows = [], []
    for path in pieces:
        count, name = count_rows(path), printable(path.relative_to(root))
        try:
            tables.append(pq.read_table(path))
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{path} is not a whole parquet file; write or download it again") from error
        rows += [f"{name}, row {row}" for row in range(count)]
        if tables[-1].column_names != tables[0].column_names:
            raise UserError(f"{path} has other columns than {pieces[0].name}; write both alike")
    columns = {name: [cell for table in tables for cell in table[name].to_pylist()] for name in tables[0].column_names}
    return TextTable(columns, rows, str(pieces[0]))


def _csv(path: Path, name: str) -> TextTable:
    """A table with a line of column names."""
    csv.field_size_limit(_LONGEST_CELL)

    def read() -> TextTable:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, None)
            if not header:
                raise UserError(f"{path} is empty; its first line names the columns")
            twice = [column for column in header if column and header.count(column) > 1]
            if twice:
                raise UserError(f"{path} has more than one column {twice[0]}; rename or remove the others")
            cells, rows = [], []
            for row in filter(None, lines):
                if len(row) != len(header):
                    raise UserError(f"{path}, line {lines.line_num}, has {len(row)} cells instead of {len(header)}; mend it")
                cells.append(row)
                rows.append(f"{name}, line {lines.line_num}")
        columns = zip(*cells, strict=True) if cells else [()] * len(header)
        return TextTable(dict(zip(header, map(list, columns), strict=True)), rows, str(path))

    return _decoded(path, read)


def _jsonl(path: Path, name: str) -> TextTable:
    """An object a line; what a line does not say of a column is None."""
    objects, rows = [], []
    for number, line in _numbered_lines(path):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}, is no JSON: {in_one_line(error)}; mend it") from error
        if not isinstance(entry, dict):
            raise UserError(f"{path}, line {number}, holds no object with named columns; mend it")
        objects.append(entry)
        rows.append(f"{name}, line {number}")
    names = list(dict.fromkeys(key for entry in objects for key in entry))
    return TextTable({key: [entry.get(key) for entry in objects] for key in names}, rows, str(path))


def _lines(path: Path, name: str) -> TextTable:
    """A text a line, without empty lines."""
    numbered = _numbered_lines(path)
    return TextTable({TEXT: [line for _, line in numbered]}, [f"{name}, line {number}" for number, _ in numbered], str(path))


def _folder(folder: Path, name: str) -> TextTable:
    """A text a file, in the folder itself or in folders of the classes."""
    with reading_folder(folder):
        entries = sorted(filter(lambda path: _is_shown(path.relative_to(folder)), folder.rglob("*")), key=printable)
    paths = [path for path in entries if path.suffix.lower() == ".txt" and path.is_file()]
    depths = {len(path.relative_to(folder).parts) for path in paths}
    if not paths:
        raise UserError(f"{folder} holds no .txt files; put a text a file there, or into folders of their classes")
    if 1 in depths and len(depths) > 1:
        raise UserError(f"{folder} holds texts beside folders of texts; put all of them into folders of their classes, or none")
    texts = [_decoded(path, lambda path=path: path.read_text(encoding="utf-8-sig")) for path in paths]
    columns = {TEXT: texts} | ({} if 1 in depths else {CLASS: [path.relative_to(folder).parts[0] for path in paths]})
    return TextTable(columns, [f"{name}/{printable(path.relative_to(folder))}" for path in paths], str(folder))


def _is_shown(path: Path) -> bool:
    return not any(part.startswith(".") for part in path.parts)


def _numbered_lines(path: Path) -> list[tuple[int, str]]:
    content = _decoded(path, lambda: path.read_text(encoding="utf-8-sig"))
    return [(number, line) for number, line in enumerate(content.split("\n"), start=1) if line.strip()]


def _decoded(path: Path, read: Callable[[], Result]) -> Result:
    """What `read` makes of a file; raises UserError for one that is no UTF-8 text."""
    try:
        with reading(path):
            return read()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8: byte {error.start} cannot be decoded; save it in UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{path} cannot be read as a table with commas: {error}; mend it") from error
