"""Tables as CSV files."""

from pathlib import Path

import numpy as np
import pandas as pd

from tda.scores.tables import write_table


def test_numbers_have_six_digits_and_a_missing_one_is_an_empty_cell(tmp_path: Path):
    table = pd.DataFrame({"method": ["loo", "trak"], "lds": [1 / 3, np.nan], "pairs": [1234567, 2]}, index=[5, 6])
    path = tmp_path / "new" / "lds.csv"
    write_table(path, table)
    assert path.read_text() == "method,lds,pairs\nloo,0.333333,1234567\ntrak,,2\n"
    write_table(path, table.set_index("method"), index=True)
    assert path.read_text() == "method,lds,pairs\nloo,0.333333,1234567\ntrak,,2\n"


def test_row_names_are_written_where_they_are_asked_for(tmp_path: Path):
    table = pd.DataFrame({"a": [0.1, 2e-9]}, index=pd.Index([1, 2], name="checkpoints"))
    write_table(tmp_path / "with.csv", table, index=True)
    write_table(tmp_path / "without.csv", table)
    assert (tmp_path / "with.csv").read_text() == "checkpoints,a\n1,0.1\n2,2e-09\n"
    assert (tmp_path / "without.csv").read_text() == "a\n0.1\n2e-09\n"
