"""Tables of results as CSV files."""

from pathlib import Path

import pandas as pd

from tda.system.files import write_text

DIGITS = "%.6g"


def write_table(path: Path, table: pd.DataFrame, index: bool = False) -> None:
    """Write a table atomically as CSV, numbers with six digits; index: whether the row names are a column of it."""
    write_text(path, table.to_csv(index=index, float_format=DIGITS))
