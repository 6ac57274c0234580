"""What the tables of an experiment say: a row for each method, and what is missing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tda.experiments.folders import Experiment
from tda.experiments.manifest import step
from tda.report.overview import chart_data, read_overview
from tda.scores.score_files import Scores
from tda.statistics.pair_statistics import pair_statistics
from tda.steps.compute_pvalues import summary_row
from tda.system.errors import UserError

EXPERIMENT = Experiment("cnn", "digits3", 2)
FOLDER = EXPERIMENT.results
SUMMARY = pd.DataFrame(
    {
        "method": ["loo", "loo", "if"],
        "checkpoints": [1, 2, 2],
        "seeds": 4,
        "pairs": 12,
        "mean_p_value": [0.5, 0.4, 0.1],
        "share_p_below_level": [0.2, 0.3, 0.9],
        "share_q_below_level": [0.1, 0.2, 0.9],
        "mean_signal_to_noise": [0.6, 0.7, 3.0],
        "median_signal_to_noise": [0.5, 0.6, 2.0],
    }
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    with step(EXPERIMENT, "scoring if", {}, {}):
        pass
    return FOLDER.path


def write(path: Path, **columns: object) -> None:
    pd.DataFrame(columns).to_csv(path, index=False)


def test_a_row_takes_each_value_from_its_table(folder: Path):
    write(folder / "correlation_spearman_mean.csv", method=["if", "loo"], **{"if": [1.0, 0.7], "loo": [0.7, 1.0]})
    agreement = {"method": ["if", "if"], "checkpoints": [1, 2], "spearman_seed": [0.1, 0.3]}
    write(folder / "agreement_with_loo.csv", **agreement)
    lds = {"method": ["if", "if", "exact_prediction"], "members": [1, 4, 0], "lds": [0.2, 0.4, 0.9]}
    write(folder / "lds.csv", **lds)
    left_out = {"method": "if", "estimand": ["same run", "same run", "other seeds"], "left_out": [2, 75, 1]}
    write(folder / "lds_left_out.csv", **left_out, checkpoints=1, lds_run=[0.6, 0.7, 0.1])
    found = read_overview(FOLDER, SUMMARY)
    assert list(found.methods) == ["loo", "if"]
    row = found.methods["if"]
    assert (row["share_reliable"], row["mean_p"], row["signal_to_noise"]) == (0.9, 0.1, 2.0)
    assert (row["with_loo"], row["with_loo_of_run"], row["lds"], row["lds_left_out"]) == (0.7, 0.3, 0.4, 0.6)
    assert row["seconds"] is not None and found.methods["loo"]["seconds"] is None
    assert found.methods["loo"]["share_reliable"] == 0.2 and found.methods["loo"]["with_loo"] is None
    assert found.missing.keys() == set()


def test_scores_that_are_the_same_for_every_seed_are_not_called_reliable(folder: Path):
    text = np.array([[3.0, 0.0], [-1.0, 2.0]])
    noise = np.random.default_rng(0).normal(size=(4, 1, 2, 2))
    each = {
        "bm25": 0 * noise + text,
        "none": 0 * noise,
        "sure": 1e6 * text + noise,
        "mixed": noise * [[0, 0], [0, 1]] + text,
    }
    rows = []
    for name, values in each.items():
        scores = Scores(name, [0, 1, 2, 3], [1], np.arange(2), np.arange(2), values, {})
        rows.append(summary_row(pair_statistics(scores, 1)))
    found = read_overview(FOLDER, pd.DataFrame(rows)).methods
    assert all(found[name]["share_reliable"] is found[name]["mean_p"] is None for name in ("bm25", "none"))
    assert all(found[name]["share_reliable"] is not None for name in ("sure", "mixed"))


def test_what_is_missing_is_named_with_its_command(folder: Path):
    found = read_overview(FOLDER, SUMMARY)
    assert found.missing["correlations"] == "run_correlation_analysis.py --experiment cnn_digits3_2pc"
    assert set(found.missing) == {"correlations", "agreement", "lds"}
    charts = chart_data(found, {})
    assert charts["agreement"] == [] and charts["lds"] == [] and charts["correlations"]["mean"] == {}


def test_undefined_numbers_become_nothing(folder: Path):
    write(folder / "correlation_spearman_mean.csv", method=["if", "loo"], **{"if": [1.0, None], "loo": [None, 1.0]})
    found = read_overview(FOLDER, SUMMARY)
    assert found.methods["if"]["with_loo"] is None
    assert chart_data(found, {})["correlations"]["mean"]["spearman"]["values"] == [[1.0, None], [None, 1.0]]


def test_agreement_is_drawn_at_the_most_checkpoints(folder: Path):
    numbers = {
        f"spearman_{name}{end}": [0.1, 0.2] for name in ("seed", "mean", "std", "p_value") for end in ("", "_low", "_high")
    }
    write(folder / "agreement_with_loo.csv", method=["if", "if"], checkpoints=[1, 2], **numbers)
    across = {
        name: [0.3, 0.4, 0.5, 0.6] for name in ("spearman_other_run", "mean_of_halves", "std_of_halves", "p_value_of_halves")
    }
    write(folder / "agreement_between_runs.csv", method=["loo", "loo", "if", "if"], checkpoints=[1, 2, 1, 2], **across)
    points = chart_data(read_overview(FOLDER, SUMMARY), {})["agreement"]
    assert [point["statistic"] for point in points] == [
        "scores of a run",
        "means over seeds",
        "deviations over seeds",
        "p-values",
    ]
    expected = {"method": "if", "value": 0.2, "low": 0.2, "high": 0.2, "other": 0.6, "loo_of_other_runs": 0.4}
    assert all(point | expected == point for point in points)


def test_a_damaged_table_is_refused(folder: Path):
    (folder / "lds.csv").write_bytes(b"")
    with pytest.raises(UserError, match="lds.csv is damaged"):
        read_overview(FOLDER, SUMMARY)
