"""The LDS tables: rows against plain formulas, and the script as a user runs it."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import EXPERIMENT, Ensemble, assert_refused, copied, run_here, run_script
from scipy.stats import spearmanr

from tda.experiments.manifest import read_manifest
from tda.scores.score_files import load_scores
from tda.steps.lds_evaluation import seconds_of_member
from tda.training.retrainings import RetrainingStore
from tda.training.study import open_study
from tda.training.subset_draws import SubsetDraw, load_subset_outputs

REFERENCES = ("random", "retraining", "exact_prediction")
DRAW = SubsetDraw("evaluation", 0.5, 12, 2)


@pytest.fixture(scope="module")
def judged_results(trained_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the tiny ensemble, scored by three methods and judged, to be copied, never changed."""
    with copied(trained_root, tmp_path_factory.mktemp("judged") / "root") as root:
        run_here("run_tda.py", num_per_class=2, methods={"grad_dot": {}, "grad_cos": {}, "trak": {}})
        RetrainingStore(open_study(EXPERIMENT, "cpu")).fill(DRAW.retrainings(6), "test")
        run_here("run_lds_evaluation.py", experiment=EXPERIMENT.name, num_subsets=12, num_retrainings=2)
    return root / "results"


@pytest.fixture
def judged(ensemble: Ensemble, judged_results: Path) -> Ensemble:
    """The tiny ensemble with these results."""
    shutil.copytree(judged_results, ensemble.root / "results", dirs_exist_ok=True)
    return ensemble


def plain_lds(masks: np.ndarray, scores: np.ndarray, outputs: np.ndarray) -> float:
    found = []
    for test in range(scores.shape[1]):
        predicted = masks @ scores[:, test]
        found.append(0.0 if np.ptp(predicted) == 0 else spearmanr(predicted, outputs[:, test]).statistic)
    return float(np.mean(found))


def test_tables_and_figure(judged: Ensemble):
    folder = EXPERIMENT.results
    table = pd.read_csv(folder.path / "lds.csv").set_index(["method", "members"])
    outputs = load_subset_outputs(RetrainingStore(judged.study), DRAW)
    masks, margins = outputs.masks.double().numpy(), outputs.margins.numpy()
    values = load_scores(folder, "grad_cos").values.astype(float).mean(axis=1)
    single = table.loc["grad_cos", 1]
    expected = np.mean([plain_lds(masks, values[seed], margins.mean(axis=0)) for seed in range(3)])
    assert single["lds"] == pytest.approx(expected, abs=1e-5) and single["ensembles"] == 3
    expected = np.mean([plain_lds(masks, values[seed], margins[number]) for seed in range(3) for number in range(2)])
    assert single["lds_single_retraining"] == pytest.approx(expected, abs=1e-5)
    pair = plain_lds(masks, values[:2].mean(axis=0), margins.mean(axis=0))
    assert table.loc["grad_cos", 2]["lds"] == pytest.approx(pair, abs=1e-5)
    assert table.loc["grad_cos", 2]["seconds"] == pytest.approx(2 * single["seconds"], rel=1e-4)
    agreement = np.mean([spearmanr(margins[0, :, test], margins[1, :, test]).statistic for test in range(150)])
    assert table.loc["retraining", 0]["lds"] == pytest.approx(agreement, abs=1e-5)
    assert table.loc["exact_prediction", 0]["lds"] == pytest.approx(np.sqrt(2 * agreement / (1 + agreement)), abs=1e-5)
    assert table.loc["exact_prediction", 0]["lds_single_retraining"] == pytest.approx(np.sqrt(agreement), abs=1e-5)
    assert table.loc["random", 0]["low"] < 0.1 and table.loc["random", 0]["high"] > -0.1
    assert ((table["low"] <= table["lds"]) & (table["lds"] <= table["high"])).all()
    assert set(table.index.get_level_values("method")) == {"grad_cos", "grad_dot", "trak", *REFERENCES}
    assert (folder.path / "lds.png").exists() and (folder.path / "lds.pdf").exists()
    assert (folder.path / "lds_by_reliability.png").exists()
    for name in ("lds_by_reliability", "lds_by_test_reliability"):
        assert set(pd.read_csv(folder.path / f"{name}.csv")["method"]) == {"grad_cos", "grad_dot", "trak"}
    assert "LDS" in read_manifest(folder)["steps"]


def test_seconds_come_from_the_manifest(judged: Ensemble):
    steps = read_manifest(EXPERIMENT.results)["steps"]
    scoring = steps["scoring trak"]["wall_seconds"]
    assert seconds_of_member(EXPERIMENT.results, "trak") == pytest.approx((steps["training"]["wall_seconds"] + scoring) / 3)
    assert np.isnan(seconds_of_member(EXPERIMENT.results, "nobody"))


def test_script(judged: Ensemble):
    arguments = ["--experiment", EXPERIMENT.name, "--num_subsets", 12, "--num_retrainings", 2]
    before = (EXPERIMENT.results.path / "lds.csv").read_bytes()
    done = run_script("run_lds_evaluation.py", *arguments, root=judged.root)
    assert done.returncode == 0 and "highest LDS" in done.stdout, done.stderr
    assert (EXPERIMENT.results.path / "lds.csv").read_bytes() == before
    refused = run_script("run_lds_evaluation.py", *arguments[:2], root=judged.root)
    assert_refused(refused, "retrainings", "run_subset_retraining.py")
    (EXPERIMENT.results.path / "lds_by_hand.xlsx").write_text("the user's own")
    line = run_here("run_lds_evaluation.py", experiment=EXPERIMENT.name, num_subsets=12, num_retrainings=2, num_seeds=2)
    assert line.startswith("wrote lds.csv and figures, in ")
    # What three seeds said of reliability, two cannot say.
    assert [path.name for path in EXPERIMENT.results.path.glob("lds_by_*")] == ["lds_by_hand.xlsx"]
    assert set(read_manifest(EXPERIMENT.results)["steps"]["LDS"]["files"]) == {"lds.csv", "lds.png", "lds.pdf"}
