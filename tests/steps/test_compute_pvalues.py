"""The p-value step on a tiny experiment: its tables, their content, and what it refuses."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import run_here, write_checkpoint

from tda.data.index_files import write_subset
from tda.data.splits import load_split
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment, ResultsFolder
from tda.experiments.manifest import read_manifest, step
from tda.scores.score_files import load_scores, save_scores
from tda.scores.six_digits import csv_text
from tda.statistics import pair_statistics as pair_statistics_module
from tda.statistics.pair_statistics import PairStatistics, pair_statistics
from tda.steps import compute_pvalues as step_module
from tda.steps.compute_pvalues import summary_row
from tda.steps.show_summary import summary_text
from tda.system.errors import UserError

EXPERIMENT = Experiment("cnn", "digits3", 2)
FOLDER = ResultsFolder(EXPERIMENT.name)


def compute(name: str, **settings: object) -> str:
    return run_here("run_compute_pvalues.py", experiment=name, **settings)


def write_scores(method: str, values: np.ndarray, data: dict | None = None) -> None:
    """Store values (seeds, epochs, n_train, n_test) as score files of the tiny experiment."""
    train, test = load_split(task_named("digits3"), "train", 2), load_split(task_named("digits3"), "test")
    data = data or {"train": train.fingerprint, "test": test.fingerprint}
    for seed_id, epoch in np.ndindex(values.shape[:2]):
        metadata = {"method": method, "seed_id": seed_id, "epoch": epoch + 1, "experiment": EXPERIMENT.name, "settings": {}}
        metadata["checkpoint"] = write_checkpoint(EXPERIMENT, seed_id, epoch + 1)
        path = FOLDER.score_file(method, seed_id, epoch + 1)
        save_scores(path, values[seed_id, epoch], train.indices.numpy(), test.indices.numpy(), metadata | {"data": data})


def make_experiment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two methods, 5 seeds, 6 x 150 examples; the ensemble is right everywhere but at test position 7."""
    shutil.copy(Path(__file__).parents[2] / "random_seeds.pt", folder)
    monkeypatch.setenv("TDA_ROOT", str(folder))
    for split, size in (("train", 2), ("test", 50)):
        write_subset(task_named("digits3"), split, size, draw_seed=0, force=False)
    with step(EXPERIMENT, "training", {}, {}):
        pass
    generator = np.random.default_rng(0)
    write_scores("grad_dot", generator.normal(size=(5, 3, 6, 150)) + 5 * generator.normal(size=(6, 150)))
    write_scores("a_new_method", generator.normal(size=(5, 2, 6, 150)))

    def predicted(study, seed_ids):
        labels = study.test.labels.numpy().copy()
        labels[7] = (labels[7] + 1) % 3
        return np.stack([labels] * len(seed_ids))

    monkeypatch.setattr(step_module, "predicted_labels", predicted)
    return folder / "results" / EXPERIMENT.name


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment that has scores and nothing else yet."""
    return make_experiment(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An experiment whose p-values were computed once, for tests that read them."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = make_experiment(tmp_path_factory.mktemp("root"), monkeypatch)
        assert str(folder) in compute(FOLDER.name)
        yield folder


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, index_col="train_idx")


def test_tables_hold_what_the_statistics_say(computed: Path):
    for method, checkpoints in (("grad_dot", 3), ("a_new_method", 2)):
        scores = load_scores(FOLDER, method)
        for k in range(1, checkpoints + 1):
            expected = pair_statistics(scores, k)
            tables = {"pvalues": "p_value", "qvalues": "q_value", "pvalues_single_draw": "single_draw_p_value"}
            for kind, field in tables.items():
                table = read(computed / f"{kind}_{method}_across_{k}_ckpts.csv")
                assert table.index.tolist() == scores.train_indices.tolist()
                assert table.columns.astype(int).tolist() == scores.test_indices.tolist()
                np.testing.assert_allclose(table.to_numpy(), getattr(expected, field), rtol=5e-6)
        assert not (computed / f"pvalues_{method}_across_{checkpoints + 1}_ckpts.csv").exists()


def test_tables_of_many_pairs_are_parquet_files(computed: Path, monkeypatch: pytest.MonkeyPatch):
    before, summary = read(computed / "qvalues_grad_dot_across_2_ckpts.csv"), (computed / "summary.csv").read_bytes()
    (computed / "pairs_of_interest").mkdir()
    monkeypatch.setattr(step_module, "MOST_CSV_PAIRS", 6 * 150 - 1)
    monkeypatch.setattr(pair_statistics_module, "_BLOCK_PAIRS", 300)
    compute(EXPERIMENT.name)
    assert (computed / "summary.csv").read_bytes() == summary
    assert not list(computed.glob("*values_*_ckpts.csv")) and not list(computed.glob(".pair_statistics*"))
    (computed / "pairs_of_interest").rmdir()
    table = pd.read_parquet(computed / "qvalues_grad_dot_across_2_ckpts.parquet").set_index("train_idx")
    assert table.columns.tolist() == before.columns.tolist() and table.index.tolist() == before.index.tolist()
    np.testing.assert_allclose(table.to_numpy(), before.to_numpy(), rtol=5e-6)
    monkeypatch.undo()
    monkeypatch.setenv("TDA_ROOT", str(computed.parents[1]))
    compute(EXPERIMENT.name)
    assert not list(computed.glob("*.parquet")) and read(computed / "qvalues_grad_dot_across_2_ckpts.csv").equals(before)


def test_summaries_agree_with_the_tables(computed: Path):
    summary = pd.read_csv(computed / "summary.csv").set_index(["method", "checkpoints"])
    means = pd.read_csv(computed / "mean_p_values.csv", index_col="checkpoints")
    single_means = pd.read_csv(computed / "mean_single_draw_p_values.csv", index_col="checkpoints")
    assert means.columns.tolist() == ["a_new_method", "grad_dot"] and means.index.tolist() == [1, 2, 3]
    assert np.isnan(means.loc[3, "a_new_method"])
    p, q, single = (
        read(computed / f"{kind}_grad_dot_across_2_ckpts.csv").to_numpy()
        for kind in ("pvalues", "qvalues", "pvalues_single_draw")
    )
    row = summary.loc[("grad_dot", 2)]
    assert (row.seeds, row.pairs) == (5, 900)
    assert row.mean_p_value == means.loc[2, "grad_dot"] == pytest.approx(p.mean(), rel=1e-5)
    assert single_means.loc[2, "grad_dot"] == pytest.approx(single.mean(), rel=1e-5)
    assert row.share_p_below_level == pytest.approx((p < 0.05).mean(), rel=1e-5)
    assert row.share_q_below_level == pytest.approx((q < 0.05).mean(), rel=1e-5)
    assert row.share_same_verdict == pytest.approx(((p < 0.05) == (single < 0.05)).mean(), rel=1e-5)


def test_the_same_scores_give_the_same_bytes(computed: Path):
    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in computed.iterdir() if path.suffix in (".csv", ".png", ".pdf")}

    first = contents()
    (computed / "attributions_test_99999.png").write_bytes(b"chosen by earlier scores")
    compute(FOLDER.name)
    assert contents() == first
    assert {"pvalue_histograms.png", "pvalue_histograms.pdf", "summary.csv"} <= set(first)
    misclassified = int(load_split(task_named("digits3"), "test").indices[7])
    pictures = [name for name in first if name.startswith("attributions_test_")]
    assert f"attributions_test_{misclassified}.png" in pictures and len(pictures) == 6
    assert read_manifest(FOLDER)["steps"]["p-values"]["input_sha256"].keys() == {"train", "test"}


def test_permuting_test_examples_permutes_the_columns():
    generator = np.random.default_rng(0)
    values, order = generator.random((3, 8)), generator.permutation(8)
    tables = []
    for columns in (np.arange(8), order):
        lines = csv_text(values[:, columns], [5, 3, 9], columns.tolist(), "train_idx").decode().splitlines()
        tables.append([line.split(",") for line in lines])
    assert [[row[0]] + [row[1 + column] for column in order] for row in tables[0]] == tables[1]
    assert [row[0] for row in tables[0]] == ["train_idx", "5", "3", "9"]


def test_summary_row_counts_verdicts():
    p, q, single = np.array([[0.01, 0.04, 0.2, 0.6]]), np.array([[0.04, 0.08, 0.3, 0.6]]), np.array([[0.04, 0.3, 0.5, 0.8]])
    ratio = np.array([[2.0, 1.0, 0.6, 0.4]])
    row = summary_row(PairStatistics("loo", 10, 5, ratio, ratio, ratio, p, q, single))
    assert (row["share_p_below_level"], row["share_q_below_level"], row["share_same_verdict"]) == (0.5, 0.25, 0.75)
    assert (row["mean_signal_to_noise"], row["median_signal_to_noise"]) == (1.0, 0.8)
    assert (row["method"], row["checkpoints"], row["seeds"], row["pairs"]) == ("loo", 5, 10, 4)


def test_the_final_table_shows_the_largest_number_of_checkpoints(computed: Path):
    lines = [line.split() for line in summary_text(FOLDER).splitlines()]
    assert [line[:2] for line in lines] == [["method", "ckpts"], ["a_new_method", "2"], ["grad_dot", "3"]]


def test_no_final_table_before_the_step(experiment: Path):
    with pytest.raises(UserError, match="run run_compute_pvalues.py"):
        summary_text(FOLDER)


def test_scores_of_other_data_are_refused(experiment: Path):
    write_scores("loo", np.zeros((5, 1, 6, 150)), data={"train": "other", "test": "other"})
    with pytest.raises(UserError, match="method loo are of another train subset"):
        compute(FOLDER.name)
    assert "p-values" not in read_manifest(FOLDER)["steps"]


def test_too_few_seeds_are_refused(experiment: Path):
    with pytest.raises(UserError, match="a_new_method has scores of 2 seeds"):
        compute(FOLDER.name, num_seeds=2)


def test_a_method_without_all_trained_seeds_is_refused(experiment: Path):
    write_scores("loo", np.zeros((4, 1, 6, 150)))
    with pytest.raises(UserError, match="loo has no scores of seed 4 of cnn_digits3_2pc, which is trained"):
        compute(FOLDER.name)


def test_an_unknown_experiment_is_refused(experiment: Path):
    with pytest.raises(UserError, match="no experiment cnn_nothing"):
        compute("cnn_nothing")


def test_a_pipe_in_the_summarys_place_is_not_waited_for(experiment: Path):
    FOLDER.path.mkdir(parents=True, exist_ok=True)
    os.mkfifo(FOLDER.path / "summary.csv")
    with pytest.raises(UserError, match=r"cannot read .*summary\.csv"):
        summary_text(FOLDER)
