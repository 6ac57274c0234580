"""The yardsticks from nothing to tables on a small setting: logistic regression on digits, every step as its script does it."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import run_here

from tda.data.index_files import write_subset
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment

CHOSEN = {"model": "lr", "task": "digits3", "num_per_class": 20}
EXPERIMENT = Experiment(**CHOSEN)

pytestmark = pytest.mark.dealt_first


@pytest.fixture
def judged(root: Path) -> pd.DataFrame:
    write_subset(task_named("digits3"), "train", 20, draw_seed=0, force=False)
    run_here("run_mlp_training.py", **CHOSEN)
    run_here("run_subset_retraining.py", **CHOSEN, num_subsets=30, num_retrainings=4)
    run_here("run_subset_retraining.py", **CHOSEN, purpose="fitting", num_subsets=300, num_retrainings=1)
    damping = {"method": "if", "setting": "damping", "candidates": (0.01, 10.0), "num_subsets": 30}
    run_here("run_damping_choice.py", **CHOSEN, **damping)
    subsets = {"num_subsets": 100}
    methods = {"if": {"damping": 0.01}, "datamodels": subsets, "empirical_influence": subsets}
    for name in ("grad_dot", "grad_cos", "trak", "trak_projected", "kernel_trajectory", "if_trajectory"):
        methods[name] = {}
    run_here("run_tda.py", **CHOSEN, methods=methods)
    run_here("run_lds_evaluation.py", experiment=EXPERIMENT.name, num_subsets=30, num_retrainings=4)
    removal = {"shares": (0.1,), "num_test": 6, "num_retrainings": 1, "methods": ("kernel_trajectory",)}
    run_here("run_removal_evaluation.py", experiment=EXPERIMENT.name, **removal)
    return pd.read_csv(EXPERIMENT.results.path / "lds.csv").set_index(["method", "members"])


def test_from_nothing_to_tables(judged: pd.DataFrame):
    """Attribution predicts retraining far better than chance, and not better than an exact prediction would."""
    ceiling, random = judged.loc["exact_prediction", 0], judged.loc["random", 0]
    assert random["low"] < 0 < random["high"]
    for method in ("if", "kernel_trajectory", "datamodels"):
        for members in (1, 2):
            row = judged.loc[method, members]
            assert random["high"] < row["low"] and row["lds"] < ceiling["lds"]
    choice = pd.read_csv(EXPERIMENT.results.path / "damping_choice_if.csv").set_index("value")
    assert choice.loc[0.01, "lds"] != choice.loc[10, "lds"]
    removal = pd.read_csv(EXPERIMENT.results.path / "removal.csv").set_index("method")
    assert removal.loc["kernel_trajectory", "margin_fall"] > removal.loc["random", "margin_fall"]
    assert (EXPERIMENT.results.path / "lds_by_reliability.csv").exists()
