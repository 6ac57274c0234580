"""The step that asks how many seeds a verdict needs: tables and figure of written scores, and refusals."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import run_here, write_checkpoint

from tda.experiments.folders import Experiment
from tda.experiments.manifest import read_manifest, step
from tda.scores.score_files import save_scores
from tda.statistics.seed_tests import TESTS, by_t_test
from tda.statistics.seeds_needed import called
from tda.system.errors import UserError

SCRIPT = "run_seeds_needed.py"
EXPERIMENT = Experiment("cnn", "digits3", 2)
FOLDER = EXPERIMENT.results
SEEDS, EPOCHS, TRAIN, TESTED = 8, 2, 4, 6
SMALL = {"experiment": EXPERIMENT.name, "counts": (3, 5, 8, 50), "draws": 3, "num_pairs": 20, "simulations": 20}


@pytest.fixture
def scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Scores (seeds, epochs, n_train, n_test) of one method, of which half of the pairs have an effect."""
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    torch.save(torch.arange(SEEDS), tmp_path / "random_seeds.pt")
    with step(EXPERIMENT, "training", {}, {}):
        pass
    values = np.random.default_rng(0).normal(size=(SEEDS, EPOCHS, TRAIN, TESTED)) + 3 * (np.arange(TESTED) < 3)
    for seed_id, epoch in np.ndindex(SEEDS, EPOCHS):
        metadata = {"method": "loo", "seed_id": seed_id, "epoch": epoch, "settings": {}, "experiment": EXPERIMENT.name}
        metadata |= {"data": {"train": "a", "test": "b"}, "checkpoint": write_checkpoint(EXPERIMENT, seed_id, epoch)}
        path = FOLDER.score_file("loo", seed_id, epoch)
        save_scores(path, values[seed_id, epoch], np.arange(TRAIN), np.arange(TESTED), metadata)
    return values.astype(np.float32)


def test_tables_figure_and_closing_line(scores: np.ndarray):
    line = run_here(SCRIPT, **SMALL | {"num_pairs": 1000, "num_checkpoints": 1})
    assert line.startswith("wrote seeds_needed.csv") and "by all 8 seeds" in line
    table = pd.read_csv(FOLDER.path / "seeds_needed.csv").set_index(["test", "seeds", "verdict"])
    assert set(table.index) == {(test, count, verdict) for test in TESTS for count in (3, 5, 8) for verdict in ("p", "q")}
    whole = by_t_test(scores[:, -1].reshape(SEEDS, -1).astype(np.float64))
    expected = called(whole, "q").mean()
    assert table.loc[("t_test", 8, "q"), "called_reliable"] == pytest.approx(expected, abs=1e-5)
    assert (table["all_seeds"] == SEEDS).all() and (table["pairs"] == TRAIN * TESTED).all()
    errors = pd.read_csv(FOLDER.path / "seed_test_errors.csv")
    assert set(errors["seeds"]) == {3, 5, 8, 50} and errors["called_reliable"].between(0, 1).all()
    assert (FOLDER.path / "seeds_needed.png").stat().st_size > 5000
    assert "loo" in read_manifest(FOLDER)["steps"]["seeds needed"]["made_from"]


def test_the_same_command_writes_the_same_bytes(scores: np.ndarray):
    run_here(SCRIPT, **SMALL)
    before = {path.name: path.read_bytes() for path in FOLDER.path.glob("seed*")}
    run_here(SCRIPT, **SMALL)
    assert len(before) == 4 and {path.name: path.read_bytes() for path in FOLDER.path.glob("seed*")} == before


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"counts": (2, 5)}, "--counts must be numbers of seeds from 3"),
        ({"counts": ()}, "--counts"),
        ({"counts": (50,)}, "scores of 8 seeds, fewer than"),
        ({"draws": 0}, "--draws 0"),
        ({"num_pairs": 0}, "--num_pairs 0"),
        ({"simulations": -1}, "--simulations -1"),
        ({"num_checkpoints": 0}, "--num_checkpoints 0"),
        ({"experiment": "cnn_digits3_9pc"}, "cnn_digits3_9pc"),
    ],
)
def test_refusals(changed: dict, words: str, scores: np.ndarray):
    with pytest.raises(UserError, match=words):
        run_here(SCRIPT, **SMALL | changed)
    assert not (FOLDER.path / "seeds_needed.csv").exists()
