"""The group of each example, where a data set of the user's own says it: a column of a table, or groups.csv beside folders."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tda.data.picture_folders import printable
from tda.system.errors import UserError
from tda.system.files import reading

if TYPE_CHECKING:
    from datasets import Dataset

GROUPS_FILE = "groups.csv"
_COLUMNS = ("file", "group")


def group_names(dataset: "Dataset", column: str, where: str) -> np.ndarray:
    """Each row's group (n,) str; raises UserError, naming the row, for what is no text, number or truth value."""
    from datasets import ClassLabel

    values, feature = dataset[column][:], dataset.features[column]
    for row, value in enumerate(values):
        if not isinstance(value, str | int | float) or value != value or value == "":
            held = "no group" if value is None or value != value or value == "" else f"a {type(value).__name__}"
            raise UserError(f"row {row} of {where} holds {held} in column {column}; groups are names or numbers")
    named = [feature.int2str(value) if isinstance(feature, ClassLabel) and value >= 0 else str(value) for value in values]
    return np.array(named, dtype=str)


def groups_of_files(folder: Path, paths: Sequence[Path], needed: bool) -> np.ndarray | None:
    """Each file's group (n,) str by groups.csv in the folder, whose files are named from there: train/cat/1.png.

    None where there is no such file. Raises UserError if it is needed and missing, is no table of these columns, names a file
    twice, or leaves one out.
    """
    path = folder / GROUPS_FILE
    try:
        with reading(path), open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        if not needed:
            return None
        raise UserError(f"{path} is missing; write it with the columns file and group, a row for each picture") from error
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as text with the columns file and group; write it again") from error
    group_of: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        if not all(row.get(column) for column in _COLUMNS):
            raise UserError(f"line {number} of {path} lacks a file or a group; its columns are file and group")
        file = printable(row["file"])
        if file in group_of:
            raise UserError(f"{path} names {file} more than once; leave one of its lines")
        group_of[file] = row["group"]
    names = [printable(each.relative_to(folder)) for each in paths]
    for name in names:
        if name not in group_of:
            raise UserError(f"{path} has no line for {name}; add its group, or move the file away")
    return np.array([group_of[name] for name in names], dtype=str)
