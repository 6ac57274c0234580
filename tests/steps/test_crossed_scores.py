"""The step that asks where spread comes from: its tables, on a tiny study, what is kept, and refusals."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import EXPERIMENT, run_here

from tda.experiments.manifest import read_manifest
from tda.statistics.variance_components import SOURCES
from tda.steps.variance_components import _sentence
from tda.system.errors import UserError
from tda.training.crossed_runs import CrossedRuns

SCRIPT = "run_variance_components.py"
FOLDER = EXPERIMENT.results
SMALL = {"num_per_class": 2, "num_starts": 3, "num_orders": 3, "methods": {"grad_dot": {}}}


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER.path / f"{name}.csv")


@pytest.fixture
def analysed(root: Path) -> str:
    """The closing line of the step on three seeds of digits3, two training images a class."""
    return run_here(SCRIPT, **SMALL)


def test_tables_figure_and_two_sentences(analysed: str):
    assert analysed.startswith("wrote variance_components.csv") and "grad_dot: of the variance" in analysed
    assert analysed.count("grad_dot") == 2 and ". Its mean p-value over 3 runs is" in analysed
    table = read("variance_components").set_index(["checkpoints", "weight"])
    assert set(table.index) == {(number, weight) for number in (1, 5) for weight in ("pair", "variance")}
    np.testing.assert_allclose(table[list(SOURCES)].sum(axis=1), 1, atol=1e-5)
    assert (table["starts"] == 3).all() and (table["orders"] == 3).all() and (table["pairs"] == 6 * 150).all()
    assert (table.loc[5, "checkpoint"] < table.loc[1, "checkpoint"]).all()
    p_values = read("variance_p_values").set_index("varied")
    assert set(p_values.index) == {"initialisation", "order", "both"} and p_values["mean_p_value"].between(0, 1).all()
    assert (FOLDER.path / "variance_components.png").stat().st_size > 5000
    steps = read_manifest(FOLDER)["steps"]
    assert set(steps["variance components"]["files"]) == {
        *(f"variance_components.{suffix}" for suffix in ("csv", "png", "pdf")),
        "variance_p_values.csv",
    }


def test_a_share_a_little_below_nothing_is_told_as_nothing():
    components = pd.DataFrame([{"method": "if", "weight": "pair", "checkpoints": 1} | dict.fromkeys(SOURCES, -1e-10)])
    p_values = pd.DataFrame({"method": "if", "varied": ["both", "initialisation", "order"], "mean_p_value": 0.5, "runs": 3})
    assert "initialisation 0%, order 0%" in _sentence(components, p_values, "if")


def test_other_methods_stand_beside_and_finished_runs_are_kept(analysed: str, monkeypatch: pytest.MonkeyPatch):
    before = read("variance_components")
    run_here(SCRIPT, **SMALL | {"methods": {"repsim": {}}})
    both = read("variance_components")
    pd.testing.assert_frame_equal(both[both["method"] == "grad_dot"].reset_index(drop=True), before)
    assert set(both["method"]) == {"grad_dot", "repsim"}
    monkeypatch.setattr("tda.training.crossed_runs.members_in_memory", None)
    run_here(SCRIPT, **SMALL | {"methods": {"repsim": {}, "grad_dot": {}}})
    pd.testing.assert_frame_equal(read("variance_components"), both)


def test_a_smaller_design_reads_the_larger_ones_runs_and_replaces_its_rows(analysed: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tda.training.crossed_runs.members_in_memory", None)
    run_here(SCRIPT, **SMALL | {"num_orders": 2})
    assert (read("variance_components")["orders"] == 2).all() and (read("variance_p_values")["runs"] == 2).all()


def test_a_killed_step_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch):
    run_here(SCRIPT, **SMALL)
    tables = {name: (FOLDER.path / name).read_bytes() for name in ("variance_components.csv", "variance_p_values.csv")}
    files = sorted((FOLDER.path / "crossed_scores" / "grad_dot").iterdir())
    assert len(files) == 9
    for path in files[:4]:
        path.unlink()
    for name in tables:
        (FOLDER.path / name).unlink()
    made = []
    fill = CrossedRuns.fill
    monkeypatch.setattr(CrossedRuns, "fill", lambda *given, **named: made.append(fill(*given, **named)) or made[-1])
    run_here(SCRIPT, **SMALL)
    assert made == [4] and {name: (FOLDER.path / name).read_bytes() for name in tables} == tables


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"num_starts": 1}, "--num_starts 1 is out of range; choose 2 to 3"),
        ({"num_orders": 4}, "--num_orders 4 is out of range"),
        ({"num_checkpoints": 0}, "--num_checkpoints 0"),
        ({"num_checkpoints": 6}, "--num_checkpoints 6 is out of range"),
        ({"methods": {"lou": {}}}, "unknown method lou"),
        ({"methods": {"if": {"damp": 1}}}, "no setting damp"),
        ({"methods": {"datamodels": {}}}, "datamodels cannot score crossed runs: it needs"),
        ({"model": "mlp", "num_checkpoints": 1}, "keeps one checkpoint"),
        ({"num_per_class": 7}, "train_7pc.txt"),
    ],
)
def test_refusals_come_before_anything_is_trained(changed: dict, words: str, root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tda.training.crossed_runs.members_in_memory", None)
    with pytest.raises(UserError, match=words):
        run_here(SCRIPT, **SMALL | changed)
    assert not (FOLDER.path / "crossed_scores").exists()
