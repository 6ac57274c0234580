"""Removal with retraining: which examples go, what is measured, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import EXPERIMENT, Ensemble, run_here

from tda.scores.score_files import load_scores
from tda.steps.removal_evaluation import _removal_counts
from tda.system.errors import UserError
from tda.system.random_streams import stream_seed
from tda.training.retrainings import Retraining, RetrainingStore, without


@pytest.fixture
def scored(ensemble: Ensemble) -> Ensemble:
    run_here("tda_cnn_scripts/run_cnn_gd_and_gc.py", num_per_class=2)
    return ensemble


def remove(**changed) -> str:
    chosen = {"experiment": EXPERIMENT.name, "shares": (0.34,), "num_test": 4, "num_retrainings": 2}
    return run_here("run_removal_evaluation.py", **chosen | changed)


def test_fall_of_the_margin_without_the_most_helpful_two_of_six(scored: Ensemble):
    remove()
    table = pd.read_csv(EXPERIMENT.results.path / "removal.csv").set_index("method")
    assert set(table.index) == {"grad_cos", "grad_dot", "random"} and (table["removed"] == 2).all()
    scores = load_scores(EXPERIMENT.results, "grad_cos").values.mean(axis=(0, 1), dtype=np.float64)
    store = RetrainingStore(scored.study)
    seeds = [stream_seed(number, "removal retraining") for number in range(2)]
    base = store.load([Retraining(torch.arange(6), seed) for seed in seeds], "")
    falls, flips = [], []
    for test in range(4):
        helpful = sorted(range(6), key=lambda example, test=test: -scores[example, test])[:2]
        after = store.load([Retraining(without(6, helpful), seed) for seed in seeds], "")
        falls += [float(base.margins[k, test] - after.margins[k, test]) for k in range(2)]
        flips += [bool(base.predictions[k, test] != after.predictions[k, test]) for k in range(2)]
    row = table.loc["grad_cos"]
    assert row["margin_fall"] == pytest.approx(np.mean(falls), rel=1e-4)
    assert row["flips"] == pytest.approx(np.mean(flips))
    assert row["low"] <= row["margin_fall"] <= row["high"]
    assert row["margin_fall"] > table.loc["random", "margin_fall"]
    assert row["times_random"] == pytest.approx(row["margin_fall"] / table.loc["random", "margin_fall"], rel=1e-3)
    assert (EXPERIMENT.results.path / "removal.png").exists()


def test_second_run_retrains_nothing_and_writes_the_same(scored: Ensemble, monkeypatch: pytest.MonkeyPatch):
    remove(methods=("grad_cos",))
    before = (EXPERIMENT.results.path / "removal.csv").read_bytes()
    monkeypatch.setattr("tda.training.retrainings.train_many", None)
    remove(methods=("grad_cos",))
    assert (EXPERIMENT.results.path / "removal.csv").read_bytes() == before
    remove(methods=("grad_dot",))
    table = pd.read_csv(EXPERIMENT.results.path / "removal.csv")
    assert table["method"].tolist() == ["grad_cos", "grad_dot", "random"]


def test_shares_of_one_number_are_one_removal():
    assert _removal_counts((0.34, 0.3, 0.5), 6) == [2, 3]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"shares": ()}, "remove none or all"),
        ({"shares": (0.34, 0.01)}, "--shares 0.34,0.01 of 6 training examples remove none or all"),
        ({"num_test": 1}, "--num_test must lie in 2 to 150"),
        ({"num_retrainings": 0}, "--num_retrainings must be 1 or more"),
        ({"experiment": "cnn_digits3_9pc"}, "there is no experiment cnn_digits3_9pc"),
    ],
)
def test_unusable_settings_are_refused(scored: Ensemble, changed: dict, words: str):
    with pytest.raises(UserError, match=words):
        remove(**changed)
