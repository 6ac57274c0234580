"""Tables of results as CSV files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from tda.scores.six_digits import DIGITS
from tda.system.errors import UserError
from tda.system.files import locked, reading, sha256, write_text


def write_table(path: Path, table: pd.DataFrame, index: bool = False) -> None:
    """Write a table atomically as CSV, numbers with six digits; index: whether the row names are a column of it."""
    write_text(path, table.to_csv(index=index, float_format=DIGITS))


def row_identity(*parts: object) -> str:
    """Twelve letters for what rows of a table must share to stand beside each other: a hash of how Python writes the parts."""
    return sha256(repr(parts).encode())[:12]


def add_to_table(
    path: Path,
    rows: pd.DataFrame,
    keys: Sequence[str],
    made_from: str,
    scores: Mapping[str, str] | None = None,
    named: str = "method",
) -> pd.DataFrame:
    """Write rows into a table beside those of others that are there, and return the whole, sorted by the keys.

    A row replaces one with the same keys, which are words or integers: other numbers lose digits in the table. Rows that
    differ in the column `made_from` are of other data or settings and are dropped. scores: method -> what its scores are now
    (score_identities), kept in a column of that name: rows of a method's earlier scores are dropped too; named: the column that
    says the method. Raises UserError if the table that is there is damaged.
    """
    if scores is not None:
        rows = rows.assign(scores=_identities(rows[named], scores))
    with locked(path):
        if path.exists():
            earlier = _read(path, [*keys, made_from], made_from)
            earlier = earlier[earlier[made_from].isin(set(rows[made_from]))]
            if scores is not None:
                earlier = current_rows(earlier, scores, named)
            taken = pd.MultiIndex.from_frame(rows[list(keys)])
            earlier = earlier[~pd.MultiIndex.from_frame(earlier[list(keys)]).isin(taken)]
            rows = pd.concat([earlier, rows], ignore_index=True) if len(earlier) else rows
        rows = rows.sort_values(list(keys), kind="stable", ignore_index=True)
        write_table(path, rows)
    return rows


def current_rows(table: pd.DataFrame, scores: Mapping[str, str], named: str = "method") -> pd.DataFrame:
    """The rows of a table that are of the scores that are there now; scores, named: as in add_to_table.

    Of a table without the column, of an earlier version, those that depend on no scores.
    """
    known = table["scores"].fillna("") if "scores" in table else pd.Series("", table.index)
    return table[known.astype(str) == _identities(table[named], scores)]


def _identities(methods: pd.Series, scores: Mapping[str, str]) -> pd.Series:
    """Of each row's method; empty for what has no score files, such as random scores."""
    return methods.map(lambda method: scores.get(method, "")[:12])


def _read(path: Path, columns: Sequence[str], made_from: str) -> pd.DataFrame:
    try:
        with reading(path):
            # Of the hashes some look like numbers.
            table = pd.read_csv(path, dtype={made_from: str, "scores": str})
        _ = table[list(columns)]
    except PermissionError as error:
        raise UserError(f"{path} may not be read: permission is denied") from error
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged; delete it and run the same command again") from error
    return table
