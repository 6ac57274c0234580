"""Comparing results folders: equal ones, one changed value, one changed byte, a missing file."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import run_script, script_module

from tda.scores.score_files import save_scores

SCRIPT = "benchmarks/compare_results.py"
SCORES = "tda_scores/loo/0/attribution_epoch_1.parquet"


def write_scores(path: Path, values: np.ndarray, train: tuple[int, ...] = (7, 3, 9), settings: dict | None = None) -> None:
    metadata = {"method": "loo", "seed_id": 0, "epoch": 1, "experiment": "cnn_digits3_1pc", "data": {}}
    save_scores(path, values, np.array(train), np.array([4, 1]), metadata | {"settings": settings or {}})


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with the same score file and the same CSV."""
    before, after = tmp_path / "before", tmp_path / "after"
    write_scores(before / SCORES, np.arange(6.0).reshape(3, 2))
    (before / "summary.csv").write_text("method,mean\nloo,0.5\n")
    shutil.copytree(before, after)
    return before, after


def compared(folders: tuple[Path, Path], capsys: pytest.CaptureFixture) -> tuple[int, list[str]]:
    """The exit status and the lines that are printed."""
    status = script_module(SCRIPT).main(*folders)
    return status, capsys.readouterr().out.splitlines()


def test_equal_folders(folders: tuple[Path, Path], capsys: pytest.CaptureFixture):
    (folders[1] / "manifest.json").write_text("other")
    assert compared(folders, capsys) == (0, ["1 score files and 1 CSVs compared, 0 differ"])


def test_metadata_may_differ_and_values_may_not(folders: tuple[Path, Path], capsys: pytest.CaptureFixture):
    values = np.arange(6.0).reshape(3, 2)
    write_scores(folders[1] / SCORES, values, settings={"damping": 1})
    assert compared(folders, capsys)[0] == 0
    values[2, 1] = np.nextafter(np.float32(5), np.float32(6))
    write_scores(folders[1] / SCORES, values)
    status, lines = compared(folders, capsys)
    assert status == 1 and lines == [f"{folders[1] / SCORES}: has other values", "1 score files and 1 CSVs compared, 1 differ"]


def test_other_examples_are_other_scores(folders: tuple[Path, Path], capsys: pytest.CaptureFixture):
    write_scores(folders[1] / SCORES, np.arange(6.0).reshape(3, 2), train=(7, 3, 8))
    assert compared(folders, capsys)[0] == 1


def test_a_table_that_says_the_same_in_other_bytes_differs(folders: tuple[Path, Path], capsys: pytest.CaptureFixture):
    (folders[1] / "summary.csv").write_text("method,mean\nloo,0.50\n")
    status, lines = compared(folders, capsys)
    assert status == 1 and lines[0] == f"{folders[1] / 'summary.csv'}: differs"


@pytest.mark.parametrize("name", [SCORES, "summary.csv"])
def test_a_missing_file(folders: tuple[Path, Path], name: str, capsys: pytest.CaptureFixture):
    (folders[1] / name).unlink()
    status, lines = compared(folders, capsys)
    assert status == 1 and lines == [f"{folders[1] / name}: is missing", "1 score files and 1 CSVs compared, 1 differ"]


def test_folders_without_results_are_not_equal(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert compared((tmp_path, tmp_path), capsys) == (1, ["0 score files and 0 CSVs compared, 0 differ"])


def test_script(folders: tuple[Path, Path], tmp_path: Path):
    done = run_script(SCRIPT, *folders, root=tmp_path)
    assert done.returncode == 0 and done.stdout == "1 score files and 1 CSVs compared, 0 differ\n", done.stderr
    (folders[1] / "summary.csv").unlink()
    assert run_script(SCRIPT, *folders, root=tmp_path).returncode == 1
    refused = run_script(SCRIPT, folders[0], root=tmp_path)
    assert refused.returncode == 1 and "BEFORE/results" in refused.stderr
