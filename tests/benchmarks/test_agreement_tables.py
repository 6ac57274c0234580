"""Rows and cells of the documents' tables of agreement."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import CHECKOUT


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What three experiments' steps wrote, in part, one without a method that another has, one whose runs were not unrolled."""
    monkeypatch.syspath_prepend(str(CHECKOUT / "benchmarks"))
    for name, methods in (("a_10pc", ("trak", "unrolled")), ("b_10pc", ("unrolled",)), ("c_10pc", ("if",))):
        (tmp_path / name).mkdir()
        values = {"spearman_seed": 0.5, "spearman_mean": 0.75, "spearman_p_value": 0.25}
        rows = [{"method": method, "checkpoints": k} | values for method in methods for k in (1, 2)]
        rows[0]["spearman_seed"] = 0.125
        pd.DataFrame(rows).to_csv(tmp_path / name / "agreement_with_loo.csv")
        values = {"spearman_other_run": 0.5, "spearman_other_run_low": 0.25, "spearman_other_run_high": 0.75}
        values |= {"mean_of_halves": 0.75, "p_value_of_halves": 0.125}
        rows = [{"method": method, "checkpoints": k} | values for method in (*methods, "loo") for k in (1, 2)]
        pd.DataFrame(rows).to_csv(tmp_path / name / "agreement_between_runs.csv")
    rows = [
        {"method": method, "estimand": "same run", "left_out": 2, "lds_run": run, "lds_run_low": 0.25, "lds_run_high": 0.75}
        | {"lds_means": 0.5}
        for method, run in (("random", 0.0), ("if", 0.5), ("retraining", None))
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "a_10pc" / "lds_left_out.csv")
    return tmp_path


def test_cells_and_order(reference: Path):
    import agreement_tables

    table = agreement_tables.same_run_table(reference).set_index("method")
    assert table.index.tolist() == ["Unrolled training", "TRAK", "LOO of other runs"]
    assert list(table) == ["a_10pc", "b_10pc"]
    assert table["a_10pc"].tolist() == ["0.50 / 0.75 / 0.25", "0.12 / 0.75 / 0.25", "0.50 / 0.75 / 0.12"]
    assert table["b_10pc"].tolist() == ["0.12 / 0.75 / 0.25", "", "0.50 / 0.75 / 0.12"]
    table = agreement_tables.other_run_table(reference).set_index("method")
    assert table.loc["IF", "c_10pc"] == table.loc["LOO of other runs", "c_10pc"] == "0.50 [0.25, 0.75]"
    (row,) = agreement_tables.left_out_table(reference).to_dict("records")
    assert row == {
        "experiment": "a_10pc",
        "retrainings": "same run",
        "left out": 2,
        "IF": "0.50 [0.25, 0.75] / 0.50",
        "random scores": "0.00 [0.25, 0.75] / 0.50",
        "retrainings of other runs": " / 0.50",
    }


def test_without_any_experiment_a_table_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(CHECKOUT / "benchmarks"))
    import agreement_tables

    assert agreement_tables.left_out_table(tmp_path)["method"].tolist() == ["no experiment is kept yet"]
