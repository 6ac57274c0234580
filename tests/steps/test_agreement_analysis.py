"""Agreement with LOO on written score files: rows of every method and number of checkpoints, the closing line, refusals."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import assert_refused, run_here, run_script, write_checkpoint
from scipy import stats

from tda.experiments.folders import Experiment
from tda.experiments.manifest import read_manifest, step
from tda.figures.agreement import draw_agreement
from tda.scores.score_files import load_scores, save_scores
from tda.statistics.pair_statistics import pair_statistics
from tda.system.errors import UserError

SCRIPT = "run_agreement_analysis.py"
EXPERIMENT = Experiment("cnn", "digits3", 2)
FOLDER = EXPERIMENT.results
SEEDS, EPOCHS, TRAIN, TESTS = 6, 3, 5, 8


def write_scores(method: str, values: np.ndarray, first_test: int = 0) -> None:
    """Store values (seeds, epochs, n_train, n_test) as score files of checkpoints that are there."""
    for seed_id, place in np.ndindex(values.shape[:2]):
        metadata = {"method": method, "seed_id": seed_id, "epoch": 1 + place, "settings": {}, "experiment": EXPERIMENT.name}
        metadata |= {"data": {"train": "a", "test": "b"}, "checkpoint": write_checkpoint(EXPERIMENT, seed_id, 1 + place)}
        path = FOLDER.score_file(method, seed_id, 1 + place)
        save_scores(path, values[seed_id, place], np.arange(TRAIN), first_test + np.arange(TESTS), metadata)


@pytest.fixture
def loo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """LOO and three other methods: LOO in another unit, LOO with noise, and noise."""
    shutil.copy(Path(__file__).parents[2] / "random_seeds.pt", tmp_path)
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    with step(EXPERIMENT, "training", {}, {}):
        pass
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(TRAIN, TESTS)) + generator.normal(size=(SEEDS, EPOCHS, TRAIN, TESTS))
    write_scores("loo", scores)
    write_scores("exact", 1e4 * scores)
    write_scores("grad_dot", scores + generator.normal(size=scores.shape))
    write_scores("noise", generator.normal(size=scores.shape))
    return scores


def analyse(**changed: object) -> str:
    return run_here(SCRIPT, **{"experiment": EXPERIMENT.name} | changed)


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER.path / f"{name}.csv").set_index(["method", "checkpoints"]).sort_index()


def test_rows_and_closing_line(loo: np.ndarray):
    line = analyse(num_checkpoints=2)
    assert "over the last 2 checkpoints exact is closest to LOO of the same run: Spearman 1.00" in line
    table = read("agreement_with_loo")
    assert sorted(table.index) == [(name, k) for name in ("exact", "grad_dot", "noise") for k in (1, 2, 3)]
    exact = table.loc["exact"]
    for measure in ("spearman_seed", "pearson_mean", "spearman_p_value", "verdict_kappa", "share_same_verdict"):
        assert exact[measure].to_numpy() == pytest.approx(1, abs=1e-5)
    assert exact["wasserstein"].to_numpy() == pytest.approx(0, abs=1e-5)
    assert (abs(table.loc["noise", "spearman_mean"]) < 0.35).all()
    for k in (1, 2, 3):
        both = [pair_statistics(load_scores(FOLDER, name), k) for name in ("grad_dot", "loo")]
        for measure, field in (("spearman_mean", "mean"), ("spearman_std", "std"), ("spearman_p_value", "p_value")):
            expected = stats.spearmanr(*(getattr(one, field).ravel() for one in both)).statistic
            assert table.loc[("grad_dot", k), measure] == pytest.approx(expected, abs=1e-5)
        assert table.loc[("grad_dot", k), "share_reliable_reference"] == pytest.approx((both[1].q_value < 0.05).mean())


def test_between_runs_has_loo_of_other_runs(loo: np.ndarray):
    analyse()
    table = read("agreement_between_runs")
    assert len(table) == 12 and np.isnan(table.loc[("loo", 1), "spearman_same_run"])
    runs = [(one, other) for one in range(SEEDS) for other in range(SEEDS) if one != other]
    last = loo[:, -1].astype(np.float32)
    expected = np.mean([stats.spearmanr(last[one].ravel(), last[other].ravel()).statistic for one, other in runs])
    assert table.loc[("loo", 1), "spearman_other_run"] == pytest.approx(expected, abs=1e-5)
    assert table.loc[("exact", 1), "spearman_other_run"] == pytest.approx(expected, abs=1e-5)
    assert table.loc[("loo", 1), "mean_of_halves"] > 0.3 > abs(table.loc[("noise", 1), "mean_of_halves"])


def test_files_are_recorded_and_do_not_depend_on_threads(loo: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    analyse()
    names = ["agreement_between_runs.csv", *(f"agreement_with_loo.{end}" for end in ("csv", "pdf", "png"))]
    assert sorted(read_manifest(FOLDER)["steps"]["agreement"]["files"]) == names
    before = [(FOLDER.path / name).read_bytes() for name in names]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    analyse()
    assert [(FOLDER.path / name).read_bytes() for name in names] == before


def test_figure_has_every_method_in_order_and_loo_of_other_runs(loo: np.ndarray):
    analyse()
    tables = [read(f"agreement_{name}").reset_index() for name in ("with_loo", "between_runs")]
    figure = draw_agreement(*(table[table["checkpoints"] == 1] for table in tables))
    figure.canvas.draw()
    panels = figure.axes
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["noise", "Grad-Dot", "exact"]
    points = panels[0].containers[0][0].get_xydata()
    table = tables[0].set_index(["method", "checkpoints"])
    expected = [[table.loc[(name, 1), "spearman_seed"], place] for place, name in enumerate(("noise", "grad_dot", "exact"))]
    np.testing.assert_allclose(points, expected)
    (of_loo,) = [line for line in panels[2].lines if line.get_linestyle() == "--"]
    assert figure.get_suptitle() == "Agreement with leave-one-out: scores of 6 seeds, the last checkpoint"
    assert set(of_loo.get_xdata()) == {tables[1].set_index(["method", "checkpoints"]).loc[("loo", 1), "std_of_halves"]}


def test_what_cannot_be_compared_is_refused(loo: np.ndarray, tmp_path: Path):
    with pytest.raises(UserError, match="--num_checkpoints 6 must lie in 1 to 5"):
        analyse(num_checkpoints=6)
    with pytest.raises(UserError, match="scores of 2 seeds, but a p-value needs at least 3"):
        analyse(num_seeds=2)
    write_scores("other", loo, first_test=1)
    with pytest.raises(
        UserError, match="methods loo and other cannot be compared: they have scores of different test examples"
    ):
        analyse()
    assert not list(FOLDER.path.glob("agreement_*"))
    shutil.rmtree(FOLDER.score_folder("other"))
    write_checkpoint_of_another_training()
    assert_refused(run_script(SCRIPT, "--experiment", EXPERIMENT.name, root=tmp_path), "checkpoint that is no longer there")


def write_checkpoint_of_another_training() -> None:
    """Put another seed's checkpoint in the place of the first one's."""
    shutil.copy(EXPERIMENT.checkpoint_file(1, 1), EXPERIMENT.checkpoint_file(0, 1))


@pytest.mark.parametrize(("left", "lacking", "methods"), [("exact", "loo", "loo"), ("loo", "another method", "all")])
def test_without_loo_or_another_method_there_is_nothing_to_compare(loo: np.ndarray, left: str, lacking: str, methods: str):
    for name in {"loo", "exact", "grad_dot", "noise"} - {left}:
        shutil.rmtree(FOLDER.score_folder(name))
    with pytest.raises(
        UserError, match=f"no scores of {lacking} to compare; run run_tda.py --model .* --methods {methods} first"
    ):
        analyse()
