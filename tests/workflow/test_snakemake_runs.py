"""Snakemake over the scripts, on one machine and on a real Slurm: the same bytes as the scripts give one after another."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import CHECKOUT, EXPERIMENT, contents, make_root, run_script, temporary_files
from one_machine_slurm import NODE, PARTITION, Slurm, missing_programs, one_machine_slurm

METHODS = "grad_dot,loo"
CHOSEN = ("--model", EXPERIMENT.model, "--task", EXPERIMENT.task, "--num_per_class", EXPERIMENT.num_per_class)
PLAIN = [
    ("run_cnn_training.py",),
    ("run_tda.py", "--methods", METHODS),
    ("run_compute_pvalues.py",),
    ("run_correlation_analysis.py",),
    ("run_report.py",),
]
# What is never the same twice: the manifest, and the page that shows it, hold times.
PRODUCTS = ("data/**/*", "models/**/*", "results/**/*.parquet", "results/*/*.csv", "results/*/*.png", "results/*/*.pdf")
OWN_ENVIRONMENT = CHECKOUT / ".venv-workflow" / "bin"

pytestmark = pytest.mark.dealt_first


@pytest.fixture(scope="module")
def snakemake() -> str:
    """The program; skips where it is not installed."""
    program = shutil.which("snakemake", path=f"{OWN_ENVIRONMENT}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("snakemake is neither in .venv-workflow, where make test installs it, nor on the path")
    return program


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A Slurm of one node with two processors; skips where it is not installed."""
    if missing := missing_programs():
        pytest.skip(f"Slurm is not installed: {missing[0]} is missing (on Debian: slurmctld, slurmd, slurm-client and munge)")
    with one_machine_slurm(processors=2) as started:
        yield started


@pytest.fixture(scope="module")
def plain(snakemake: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root folder of a study by the scripts, one after another."""
    root = new_root(tmp_path_factory.mktemp("plain") / "root")
    for script, *arguments in PLAIN:
        done = run_script(script, *CHOSEN, *arguments, root=root)
        assert done.returncode == 0, done.stderr
    return root


def new_root(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TDA_ROOT", str(folder))
        return make_root(folder, sizes=(EXPERIMENT.num_per_class,))


@dataclass
class Snakemake:
    """A call of snakemake under way. output: the file that takes what it says."""

    process: subprocess.Popen
    output: Path

    def end(self, seconds: float = 600) -> str:
        """Wait for it to succeed; returns all that it said."""
        status = self.process.wait(timeout=seconds)
        assert status == 0, self.output.read_text()
        return self.output.read_text()


def start(
    program: str, root: Path, *arguments: object, config: Sequence[str] = (), environment: dict[str, str] | None = None
) -> Snakemake:
    """Start snakemake as a user does, with a target of one's own, on the study of the tests."""
    entry = {"model": EXPERIMENT.model, "task": EXPERIMENT.task, "num_per_class": EXPERIMENT.num_per_class}
    own, output = root.parent / "own.yaml", root.parent / "output.txt"
    own.write_text(yaml.safe_dump({"targets": {"own": [entry | {"methods": METHODS.split(","), "seeds": 3}]}}))
    command = [program, "own", "--snakefile", CHECKOUT / "workflow" / "Snakefile", "--configfile", own]
    command += ["--config", f"python={sys.executable}", *config, *arguments]
    environment = (environment or os.environ) | {"TDA_ROOT": str(root), "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(CHECKOUT)}
    with open(output, "wb") as file:
        streams = {"stdout": file, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(list(map(str, command)), cwd=root.parent, env=environment, **streams)
    return Snakemake(process, output)


def run(*arguments: object, **options: object) -> str:
    """Run snakemake to its end; returns all that it said."""
    return start(*arguments, **options).end()


def planned_jobs(output: str) -> dict[str, int]:
    """The table of jobs that a dry run prints."""
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}


def assert_same_products(root: Path, plain: Path) -> None:
    found, wanted = contents(root, *PRODUCTS), contents(plain, *PRODUCTS)
    assert [name for name in found | wanted if found.get(name) != wanted.get(name)] == []
    assert temporary_files(root) == []
    assert (root / "results" / EXPERIMENT.name / "report.html").exists()


def test_one_machine_gives_the_bytes_of_the_scripts_and_then_has_nothing_to_do(snakemake: str, plain: Path, tmp_path: Path):
    root = new_root(tmp_path / "root")
    planned = planned_jobs(run(snakemake, root, "--cores", 2, "--dry-run"))
    name, analyses = EXPERIMENT.name, {"p_values": 1, "correlations": 1, "report": 1, "own": 1}
    assert planned == {f"train_{name}": 1, f"score_{name}": 3, "total": 8} | analyses
    run(snakemake, root, "--cores", 2)
    assert_same_products(root, plain)
    assert "Nothing to be done" in run(snakemake, root, "--cores", 2, "--dry-run")
    # Neither has another way to share the work out, nor a study that the scripts made.
    assert "Nothing to be done" in run(snakemake, root, "--cores", 2, "--dry-run", config=["jobs=method"])
    run(snakemake, root, "--cores", 2, "--report", tmp_path / "overview.html")
    assert "pvalue_histograms.png" in (tmp_path / "overview.html").read_text()
    # A lost file is made again, and what depends on it.
    (root / "results" / name / "tda_scores" / "loo" / "1" / "attribution_epoch_15.parquet").unlink()
    planned = planned_jobs(run(snakemake, root, "--cores", 2, "--dry-run", config=["jobs=method"]))
    assert planned == {"score": 1, "total": 5} | analyses
    # What the scripts made is as good as what the workflow made.
    assert "Nothing to be done" in run(snakemake, plain, "--cores", 2, "--dry-run")


def test_unusable_configurations_are_refused_in_a_sentence(snakemake: str, tmp_path: Path):
    root = new_root(tmp_path / "root")
    started = start(snakemake, root, "--cores", 2, "--dry-run", config=["jobs=epoch"])
    status, output = started.process.wait(timeout=600), started.output.read_text()
    assert status != 0 and "jobs of target" in output and "choose seed or method" in output
    assert "Traceback" not in output


def test_slurm_gives_the_bytes_of_the_scripts(snakemake: str, slurm: Slurm, plain: Path, tmp_path: Path):
    """Every step as a job of Slurm's, of which one is killed, on a node that is drained and comes back."""
    root = new_root(tmp_path / "root")
    options = ["--profile", CHECKOUT / "workflow" / "profiles" / "slurm", "--set-threads", "train=1", "score=1"]
    options += ["--slurm-init-seconds-before-status-checks", 3, "--latency-wait", 10]
    options += ["--default-resources", f"slurm_partition={PARTITION}", "mem_mb=1000", "runtime=10"]
    started = start(snakemake, root, *options, config=["jobs=method"], environment=slurm.environment)
    try:
        wait_for(lambda: slurm.running(), started)
        killed = slurm.running()[0]
        slurm.ask("scancel", "--signal=KILL", "--full", killed)
        # Scoring is under way: the node finishes what runs, and takes nothing new until it is back.
        wait_for(lambda: list(root.glob("results/*/tda_scores/*/*/*.parquet")), started)
        slurm.ask("scontrol", "update", f"NodeName={NODE}", "State=DRAIN", "Reason=of the test")
        wait_for(lambda: not slurm.running(), started)
        waiting = slurm.ask("squeue", "--noheader", "--states=PENDING", "--format=%r")
        time.sleep(1)
        assert waiting and not slurm.running() and "drain" in slurm.ask("sinfo", "--noheader", "--format=%T")
        slurm.ask("scontrol", "update", f"NodeName={NODE}", "State=RESUME")
        output = started.end(seconds=400)
    finally:
        started.process.kill()
    assert f"SLURM-job '{killed}' failed" in output
    assert_same_products(root, plain)


def wait_for(condition: Callable[[], object], started: Snakemake, seconds: float = 120) -> None:
    """Wait until a condition holds, while snakemake runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert started.process.poll() is None, started.output.read_text()
        assert time.monotonic() < end, "nothing of what was waited for came about"
        time.sleep(0.2)
