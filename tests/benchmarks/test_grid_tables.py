"""The table of the study's grid."""

import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import CHECKOUT


def test_a_method_of_fewer_seeds_than_its_cell_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CHECKOUT / "benchmarks"))
    import grid_tables

    folder = tmp_path / "vit_cifar10_50pc"
    folder.mkdir()
    shared = {"checkpoints": 5, "mean_p_value": 0.25, "share_q_below_level": 0.5}
    rows = [{"method": "grad_dot", "seeds": 10} | shared, {"method": "loo", "seeds": 3} | shared]
    pd.DataFrame(rows).to_csv(folder / "summary.csv", index=False)
    (folder / "steps.json").write_text(json.dumps({"training": {"device": "cpu, 2 threads"}}))
    (folder / "commands.sh").write_text("# Code of the tables of p-values and correlations: commit abc1234.\n")
    [row] = grid_tables.grid_table(tmp_path).to_dict("records")
    assert (row["seeds"], row["on"], row["commit"]) == (10, "two CPU cores", "abc1234")
    assert (row["Grad-Dot"], row["LOO"]) == ("50.0% / 0.250", "50.0% / 0.250 (3 seeds)")
