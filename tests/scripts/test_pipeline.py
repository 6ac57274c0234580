"""Every script as a user runs it: the whole study on a tiny task, and what is left of it when it is killed or doubled."""

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import (
    EXPERIMENT,
    assert_refused,
    contents,
    make_root,
    run_here,
    run_script,
    script_module,
    start_script,
    temporary_files,
)

from tda.experiments.manifest import read_manifest
from tda.methods.catalogue import catalogue
from tda.scores.score_files import load_scores

METHODS = sorted(name for name, entry in catalogue().items() if entry.description.in_all and not entry.description.needs)
SCORING, LOO, GRADIENTS = "run_tda.py", "tda_cnn_scripts/run_cnn_loo.py", "tda_cnn_scripts/run_cnn_gd_and_gc.py"
STEPS = ["run_cnn_training.py", SCORING, "run_compute_pvalues.py", "run_correlation_analysis.py"]
# The manifest holds times and is therefore never the same twice.
PRODUCTS = ("data/**/*", "models/**/*", "results/**/*.parquet", "results/*/*.csv", "results/*/*.png", "results/*/*.pdf")

pytestmark = pytest.mark.dealt_first


def methods_of(script: str) -> list[str]:
    return METHODS if script == SCORING else list(script_module(script).SETTINGS.methods)


def run_all(scripts: list[str], root: Path) -> dict[str, float]:
    """Run scripts one after another and return the seconds that each took."""
    seconds = {}
    for script in scripts:
        start = time.perf_counter()
        done = run_script(script, "--num_per_class", EXPERIMENT.num_per_class, root=root)
        assert done.returncode == 0, done.stderr
        seconds[script] = time.perf_counter() - start
        assert done.stdout.count("\n") == 1
    return seconds


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """The root folder of an undisturbed study, never to be changed, and the seconds that each step took."""
    folder = tmp_path_factory.mktemp("study") / "root"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TDA_ROOT", str(folder))
        make_root(folder, sizes=())
    drawn = run_script("run_subset_generation.py", "--num_per_class", 2, root=folder)
    assert drawn.returncode == 0 and "wrote 1 index files, checked and kept 1" in drawn.stdout
    return folder, run_all(STEPS, folder)


def copy_of(study_root: Path, tmp_path: Path, without: list[str]) -> Path:
    """A copy of the study before the given steps ran."""
    folder = tmp_path / "root"
    shutil.copytree(study_root, folder)
    for script in without:
        for path in outputs_of(script, folder):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def outputs_of(script: str, root: Path) -> list[Path]:
    results = root / "results" / EXPERIMENT.name
    patterns = {
        "run_cnn_training.py": [root.glob("models")],
        "run_compute_pvalues.py": [results.glob(name) for name in ("*values*", "pvalue_*", "summary.csv", "attributions*")],
        "run_correlation_analysis.py": [results.glob("correlation_*")],
    }
    if script not in patterns:
        names = [name for method in methods_of(script) for name in (f"tda_scores/{method}", f"ensemble_scores_{method}.*")]
        patterns[script] = [results.glob(name) for name in names]
    return [path for found in patterns[script] for path in found]


def test_every_file_is_there_and_right(study: tuple[Path, dict], monkeypatch: pytest.MonkeyPatch):
    root, _ = study
    monkeypatch.setenv("TDA_ROOT", str(root))
    results = root / "results" / EXPERIMENT.name
    for seed_id in range(3):
        for epoch in range(11, 16):
            assert EXPERIMENT.checkpoint_file(seed_id, epoch).exists()
            for method in METHODS:
                table = pd.read_parquet(EXPERIMENT.results.score_file(method, seed_id, epoch))
                assert table.shape == (6, 151) and table.columns[0] == "train_idx"
    for kind in ("pvalues", "qvalues", "pvalues_single_draw"):
        for method in METHODS:
            for k in range(1, 6):
                table = pd.read_csv(results / f"{kind}_{method}_across_{k}_ckpts.csv", index_col="train_idx")
                assert table.shape == (6, 150) and ((table >= 0) & (table <= 1)).all(axis=None)
    for statistic in ("mean", "std", "pvalue"):
        for kind in ("pearson", "spearman"):
            matrix = pd.read_csv(results / f"correlation_{kind}_{statistic}.csv", index_col=0)
            assert list(matrix.index) == list(matrix.columns) == METHODS
            np.testing.assert_allclose(np.diag(matrix), 1)
    summary = pd.read_csv(results / "summary.csv")
    assert len(summary) == len(METHODS) * 5 and set(summary["seeds"]) == {3}
    assert pd.read_csv(results / "mean_p_values.csv", index_col=0).shape == (5, len(METHODS))
    pictures = [path.name for path in results.glob("*.p[nd][gf]")]
    assert {"pvalue_histograms.png", "pvalue_histograms.pdf", "correlation_mean.png", "correlation_mean.pdf"} <= set(pictures)
    assert any(name.startswith("attributions_test_") for name in pictures)
    assert temporary_files(root) == []


def test_published_influence_at_its_settings_is_grad_dot_times_a_constant(study: tuple[Path, dict], monkeypatch):
    monkeypatch.setenv("TDA_ROOT", str(study[0]))
    lissa, dot = (load_scores(EXPERIMENT.results, name).values.ravel() for name in ("if_lissa", "grad_dot"))
    assert np.corrcoef(lissa, dot)[0, 1] > 0.9999


def test_manifest_names_every_step(study: tuple[Path, dict], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TDA_ROOT", str(study[0]))
    steps = read_manifest(EXPERIMENT.results)["steps"]
    assert set(steps) == {"training", *(f"scoring {method}" for method in METHODS), "p-values", "correlations"}
    for entry in steps.values():
        assert entry["seeds"] == [11, 22, 33]
        assert entry["wall_seconds"] >= 0 and entry["peak_memory_mib"] > 50
        assert entry["versions"]["torch"] and len(entry["input_sha256"]["train"]) == 64
    assert steps["training"]["arguments"]["num_per_class"] == 2


def test_second_run_rewrites_nothing_and_gives_the_same_tables(
    study: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = copy_of(study[0], tmp_path, without=[])
    monkeypatch.setenv("TDA_ROOT", str(root))
    before = contents(root, *PRODUCTS)
    # An ensemble's own scores are made of its members' anew, like the tables.
    kept = [path for pattern in PRODUCTS[:3] for path in root.glob(pattern) if path.is_file() and "ensemble" not in path.name]
    times = {path: path.stat().st_mtime_ns for path in kept}
    lines = [run_here(script, num_per_class=EXPERIMENT.num_per_class) for script in STEPS]
    assert {path: path.stat().st_mtime_ns for path in kept} == times
    assert contents(root, *PRODUCTS) == before
    assert "trained 0 seeds, kept 3" in lines[0] and f"wrote 0 score files, kept {15 * len(METHODS)}" in lines[1]


def kill_when(script: str, root: Path, is_time: Callable[[], bool]) -> bool:
    """Start a step, kill it when it is time, and tell whether it was still at work."""
    process = start_script(script, "--num_per_class", EXPERIMENT.num_per_class, root=root)
    try:
        while process.poll() is None and not is_time():
            time.sleep(0.002)
        return process.poll() is None
    finally:
        process.kill()
        process.communicate()


def after(seconds: float) -> Callable[[], bool]:
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() > end


def assert_same_as_undisturbed(root: Path, reference: Path) -> None:
    """Every product is there, byte for byte, and no unfinished file is left."""
    assert contents(root, *PRODUCTS) == contents(reference, *PRODUCTS)
    assert temporary_files(root) == []


@pytest.mark.parametrize(("script", "kills"), [(STEPS[0], 1), (LOO, 1), (GRADIENTS, 1)])
def test_killed_step_ends_like_an_undisturbed_one(script: str, kills: int, study: tuple[Path, dict], tmp_path: Path):
    root = copy_of(study[0], tmp_path, without=[script])
    for enough in random.sample(range(1, 10), kills):

        def is_time(enough: int = enough) -> bool:
            return sum(len(list(path.rglob("*.*"))) for path in outputs_of(script, root)) >= enough

        assert kill_when(script, root, is_time), f"no process was left to kill once {enough} files were written"
    run_all([script], root)
    assert_same_as_undisturbed(root, study[0])


@pytest.mark.long
def test_a_hundred_kills_over_the_pipeline(study: tuple[Path, dict], tmp_path: Path, capsys: pytest.CaptureFixture):
    reference, seconds = study
    kills = hits = 0
    while hits < 100:
        for script in STEPS:
            root = copy_of(reference, tmp_path, without=[script])
            # Half of a step's time goes into loading libraries; a third of the kills fall there.
            for share in (random.uniform(0, 0.5), random.uniform(0.5, 1), random.uniform(0.5, 1)):
                hits += kill_when(script, root, after(share * seconds[script]))
                kills += 1
            run_all([script], root)
            assert_same_as_undisturbed(root, reference)
            shutil.rmtree(root)
        with capsys.disabled():
            print(f"\n{kills} kills, of which {hits} hit a process at work, over {len(STEPS)} steps", flush=True)


def side_by_side(*starts: Callable[[], subprocess.Popen]) -> None:
    processes = [start() for start in starts]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors


def starts(script: str, root: Path, *seed_ids: int) -> list[Callable[[], subprocess.Popen]]:
    arguments = (script, "--num_per_class", 2, "--seed_id")
    return [partial(start_script, *arguments, seed_id, root=root) for seed_id in seed_ids]


@pytest.mark.parametrize("script", [STEPS[0], GRADIENTS])
def test_processes_at_once_write_the_same_bytes(script: str, study: tuple[Path, dict], tmp_path: Path):
    reference, _ = study
    root = copy_of(reference, tmp_path, without=[script])
    side_by_side(*starts(script, root, 0, 1, 2, 2))
    assert_same_as_undisturbed(root, reference)


def test_refusals_are_one_sentence_and_status_2(study: tuple[Path, dict], tmp_path: Path):
    root = copy_of(study[0], tmp_path, without=[])
    before = contents(root, *PRODUCTS)
    refused = [
        ("run_subset_generation.py", ["--task", "digits4"], ["digits4", "digits3"]),
        ("run_cnn_training.py", ["--num_per_class", 7], ["train_7pc.txt", "run_subset_generation.py"]),
        (GRADIENTS, ["--num_per_class", 2, "--seed_id", 3], ["seed_id 3", "0 to 2"]),
        ("run_compute_pvalues.py", ["--experiment", "cnn_digits3_9pc"], ["cnn_digits3_9pc"]),
    ]
    running = [(start_script(script, *arguments, root=root), words) for script, arguments, words in refused]
    for process, words in running:
        output, errors = process.communicate()
        assert_refused(subprocess.CompletedProcess(process.args, process.returncode, output, errors), *words)
    assert contents(root, *PRODUCTS) == before


def test_limit_on_file_size_leaves_finished_files_intact(study: tuple[Path, dict], tmp_path: Path):
    root = copy_of(study[0], tmp_path, without=[GRADIENTS])
    before = contents(root, *PRODUCTS)

    def limit() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = run_script(GRADIENTS, "--num_per_class", 2, root=root, preexec_fn=limit)
    assert_refused(done, "cannot write", "file size")
    assert contents(root, *PRODUCTS) == before and temporary_files(root) == []


def test_results_folder_that_cannot_be_written(study: tuple[Path, dict], tmp_path: Path):
    root = copy_of(study[0], tmp_path, without=["run_correlation_analysis.py"])
    results = root / "results" / EXPERIMENT.name
    shutil.move(results / "tda_scores" / "ats", tmp_path / "ats")
    (results / "tda_scores" / "ats").write_text("a file in the way")
    before = contents(root, *PRODUCTS)
    done = run_script("tda_cnn_scripts/run_cnn_ats.py", "--num_per_class", 2, "--seed_id", 0, root=root)
    assert_refused(done, str(results / "tda_scores" / "ats"))
    assert contents(root, *PRODUCTS) == before
