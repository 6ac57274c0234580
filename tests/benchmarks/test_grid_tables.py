"""The table of the study's grid."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from conftest import CHECKOUT


@pytest.fixture
def grid_tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(CHECKOUT / "benchmarks"))
    return importlib.import_module("grid_tables")


def write_cell(folder: Path, device: str, name: str = "summary.csv", **seeds: int) -> None:
    folder.mkdir(exist_ok=True)
    shared = {"checkpoints": 5, "mean_p_value": 0.25, "share_q_below_level": 0.5}
    pd.DataFrame([{"method": method, "seeds": own} | shared for method, own in seeds.items()]).to_csv(
        folder / name, index=False
    )
    (folder / "steps.json").write_text(json.dumps({"training": {"device": device}}))
    (folder / "commands.sh").write_text(
        "# Code of the tables of p-values and correlations: commit abc1234.\n"
        "# summary_two_cores.csv: of an ensemble of its own. Commit def5678.\n"
    )


def test_a_method_of_fewer_seeds_than_its_cell_says_so(tmp_path: Path, grid_tables: ModuleType) -> None:
    write_cell(tmp_path / "vit_cifar10_50pc", "cpu, 2 threads", grad_dot=10, loo=3)
    [row] = grid_tables.grid_table(tmp_path).to_dict("records")
    assert (row["seeds"], row["on"], row["commit"]) == (10, "two CPU cores", "abc1234")
    assert (row["Grad-Dot"], row["LOO"]) == ("50.0% / 0.250", "50.0% / 0.250 (3 seeds)")


def test_methods_of_an_ensemble_of_their_own_have_a_star(tmp_path: Path, grid_tables: ModuleType) -> None:
    write_cell(tmp_path / "cnn_cifar10_20pc", "NVIDIA H100", grad_dot=10, loo=10)
    write_cell(tmp_path / "cnn_cifar10_20pc", "NVIDIA H100", "summary_two_cores.csv", grad_dot=3, loo=10, trak=12)
    [row] = grid_tables.grid_table(tmp_path).to_dict("records")
    assert (row["seeds"], row["on"], row["commit"]) == (12, "H100", "abc1234, *def5678")
    assert row["Grad-Dot"] == row["LOO"] == "50.0% / 0.250 (10 seeds)" and row["TRAK"] == "50.0% / 0.250*"


def test_more_seeds_of_an_ensemble_of_their_own_are_shown(tmp_path: Path, grid_tables: ModuleType) -> None:
    write_cell(tmp_path / "cnn_cifar10_50pc", "NVIDIA H100", grad_dot=3, loo=3)
    write_cell(tmp_path / "cnn_cifar10_50pc", "NVIDIA H100", "summary_two_cores.csv", grad_dot=10)
    [row] = grid_tables.grid_table(tmp_path).to_dict("records")
    assert (row["seeds"], row["commit"]) == (10, "abc1234, *def5678")
    assert (row["Grad-Dot"], row["LOO"]) == ("50.0% / 0.250*", "50.0% / 0.250 (3 seeds)")
