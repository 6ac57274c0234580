"""Correlations between methods against scipy, and methods that cannot be compared."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import run_here, write_checkpoint
from scipy import stats

from tda.experiments.folders import Experiment, ResultsFolder
from tda.experiments.manifest import step
from tda.scores.score_files import load_scores, save_scores
from tda.statistics.pair_statistics import pair_statistics
from tda.system.errors import UserError

EXPERIMENT = Experiment("cnn", "digits3", 2)
FOLDER = ResultsFolder(EXPERIMENT.name)
DATA = {"train": "a", "test": "b"}


def correlate_over(num_checkpoints: int) -> str:
    return run_here("run_correlation_analysis.py", experiment=FOLDER.name, num_checkpoints=num_checkpoints)


def write_scores(
    method: str, values: np.ndarray, first_train: int = 0, first_test: int = 0, first_epoch: int = 1, data: dict = DATA
) -> None:
    """Store values (seeds, epochs, n_train, n_test) as score files."""
    train, test = first_train + np.arange(values.shape[2]), first_test + np.arange(values.shape[3])
    for seed_id, place in np.ndindex(values.shape[:2]):
        metadata = {"method": method, "seed_id": seed_id, "epoch": first_epoch + place, "data": data, "settings": {}}
        metadata["checkpoint"] = write_checkpoint(EXPERIMENT, seed_id, first_epoch + place)
        path = FOLDER.score_file(method, seed_id, first_epoch + place)
        save_scores(path, values[seed_id, place], train, test, metadata | {"experiment": EXPERIMENT.name})


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment with a manifest and three correlated methods of 4 seeds and 3 epochs on 5 x 7 examples."""
    shutil.copy(Path(__file__).parents[2] / "random_seeds.pt", tmp_path)
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    with step(EXPERIMENT, "training", {}, {}):
        pass
    generator = np.random.default_rng(0)
    common = generator.normal(size=(5, 7))
    for scale, method in ((1.0, "grad_cos"), (-1e-9, "loo"), (1e6, "unregistered")):
        write_scores(method, scale * (common + generator.normal(size=(4, 3, 5, 7))))
    return tmp_path / "results" / EXPERIMENT.name


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, index_col="method")


@pytest.mark.parametrize("asked, used", [(2, 2), (5, 3)])
def test_matrices_equal_scipy_on_flattened_statistics(results: Path, asked: int, used: int):
    assert f"over the last {used} checkpoints" in correlate_over(asked)
    names = ["grad_cos", "loo", "unregistered"]
    statistics = [pair_statistics(load_scores(FOLDER, name), used) for name in names]
    for short, field in (("mean", "mean"), ("std", "std"), ("pvalue", "p_value")):
        for kind, correlate in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
            matrix = read(results / f"correlation_{kind}_{short}.csv")
            assert matrix.index.tolist() == matrix.columns.tolist() == names
            arrays = [getattr(method, field).ravel() for method in statistics]
            expected = [[correlate(left, right).statistic for right in arrays] for left in arrays]
            np.testing.assert_allclose(matrix, expected, rtol=1e-5)
        for suffix in ("png", "pdf"):
            assert (results / f"correlation_{short}.{suffix}").stat().st_size > 5_000


def test_a_constant_is_an_empty_cell(results: Path):
    write_scores("certain", np.full((4, 3, 5, 7), 0.1))
    correlate_over(3)
    for kind in ("pearson", "spearman"):
        for short in ("mean", "std", "pvalue"):
            matrix = read(results / f"correlation_{kind}_{short}.csv")
            assert matrix.loc["certain"].isna().all() and matrix["certain"].isna().all()
            assert matrix.drop("certain").drop(columns="certain").notna().all(axis=None)
    assert "certain,,,,\n" in (results / "correlation_pearson_pvalue.csv").read_text()


def test_one_method_is_refused(results: Path):
    for method in ("loo", "unregistered"):
        shutil.rmtree(FOLDER.score_folder(method))
    with pytest.raises(UserError, match="scores of grad_cos alone"):
        correlate_over(5)


@pytest.mark.parametrize(
    "what, epochs, changed",
    [
        ("epochs", 3, {"first_epoch": 2}),
        ("epochs", 2, {}),
        ("training examples", 3, {"first_train": 1}),
        ("test examples", 3, {"first_test": 1}),
        ("data", 3, {"data": {"train": "a", "test": "c"}}),
    ],
)
def test_methods_that_differ_are_named(results: Path, what: str, epochs: int, changed: dict):
    write_scores("other", np.random.default_rng(0).normal(size=(4, epochs, 5, 7)), **changed)
    with pytest.raises(UserError, match=f"methods grad_cos and other cannot be compared: they have scores of different {what}"):
        correlate_over(5)


def test_no_checkpoints_are_refused(results: Path):
    with pytest.raises(UserError, match="--num_checkpoints 0"):
        correlate_over(0)
