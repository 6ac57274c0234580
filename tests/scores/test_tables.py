"""Tables as CSV files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tda.scores.tables import add_to_table, write_table
from tda.system.errors import UserError


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


def rows(made_from: str = "now", **methods: float) -> pd.DataFrame:
    return pd.DataFrame({"method": methods.keys(), "auc": methods.values(), "made_from": made_from})


def test_rows_of_two_runs_stand_in_one_table(tmp_path: Path):
    path = tmp_path / "table.csv"
    add_to_table(path, rows(trak=0.5, loo=0.25), ["method"], "made_from")
    table = add_to_table(path, rows(grad_dot=0.75, loo=0.125), ["method"], "made_from")
    assert dict(zip(table["method"], table["auc"], strict=True)) == {"grad_dot": 0.75, "loo": 0.125, "trak": 0.5}
    assert path.read_text() == "method,auc,made_from\ngrad_dot,0.75,now\nloo,0.125,now\ntrak,0.5,now\n"


def test_rows_of_other_data_are_dropped(tmp_path: Path):
    path = tmp_path / "table.csv"
    add_to_table(path, rows("before", trak=0.5), ["method"], "made_from")
    assert list(add_to_table(path, rows(loo=0.25), ["method"], "made_from")["method"]) == ["loo"]


@pytest.mark.parametrize("content", ["", "method,auc\nloo,0.1\n"])
def test_damaged_table_is_not_written_over(tmp_path: Path, content: str):
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(UserError, match="table.csv is damaged; delete it"):
        add_to_table(path, rows(loo=0.25), ["method"], "made_from")
    assert path.read_text() == content


@pytest.mark.parametrize("made_from", ["123456789012", "012345678901", "1234567e8901"])
def test_rows_stay_whose_hash_looks_like_a_number(tmp_path: Path, made_from: str):
    path = tmp_path / "table.csv"
    add_to_table(path, rows(made_from, trak=0.5), ["method"], "made_from")
    table = add_to_table(path, rows(made_from, loo=0.25), ["method"], "made_from")
    assert list(table["method"]) == ["loo", "trak"] and set(table["made_from"]) == {made_from}


def test_rows_of_earlier_scores_are_dropped(tmp_path: Path):
    path, hashes = tmp_path / "table.csv", {"loo": "1" * 64, "trak": "12e4" * 16}
    add_to_table(path, rows(loo=0.5, trak=0.25, random=0.0), ["method"], "made_from", hashes)
    table = add_to_table(path, rows(grad_dot=0.1), ["method"], "made_from", hashes | {"loo": "2" * 64, "grad_dot": "3" * 64})
    assert list(table["method"]) == ["grad_dot", "random", "trak"]
    assert pd.read_csv(path, dtype=str)["scores"].fillna("").tolist() == ["3" * 12, "", "12e412e412e4"]
