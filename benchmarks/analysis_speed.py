"""p-values and correlations of fourteen methods, against an earlier checkout of this project, and whether they are the same.

    python benchmarks/analysis_speed.py --before ../earlier --data ../earlier/data

For each of the two checkouts a root folder is made with its own code: cnn_mnist3_50pc (150 x 900 examples) is trained for ten
seeds of five checkpoints and scored by grad_dot; twelve more methods are stand-ins, its scores with noise, beside grad_cos.
Then the two scripts of both checkouts run in turns, each in a process of its own, from nothing in memory to their last line.
Every score file and every CSV of the two must be the same. Writes benchmarks/results/analysis_speed.json.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import common
import compare_results
from common import CHECKOUT, rounded, spread

EXPERIMENT = ("--model", "cnn", "--task", "mnist3", "--num_per_class", "50")
NAME = "cnn_mnist3_50pc"
STAND_INS = "loo,ats,if,if_lissa,if_arnoldi,ekfac,trak,trak_projected,tracin,gas,repdot,repcos"
SCRIPTS = ("run_compute_pvalues.py", "run_correlation_analysis.py")


@dataclass(kw_only=True)
class Settings:
    """The constants to edit."""

    before: str = ""
    """Checkout to compare with, installed packages being those of this one."""
    data: str = str(CHECKOUT / "data")
    """Folder in which MNIST lies."""
    repeats: int = 3
    """Runs of each script of each checkout, in turns, after one that is not counted."""


@dataclass(frozen=True)
class Cost:
    """What a run took: seconds by the clock and of the processors, and the largest resident memory in MiB."""

    seconds: float
    processor_seconds: float
    peak_mib: int


def main(settings: Settings) -> str:
    """Measure and write the result."""
    checkouts = {"before": Path(settings.before).resolve(), "after": CHECKOUT}
    with tempfile.TemporaryDirectory(prefix="tda-benchmark-") as folder:
        roots = {name: Path(folder) / name for name in checkouts}
        for name, checkout in checkouts.items():
            make_root(checkout, roots[name], Path(settings.data).resolve())
        costs = {(script, name): [] for script in SCRIPTS for name in checkouts}
        for number in range(settings.repeats + 1):
            for script in SCRIPTS:
                for name, checkout in checkouts.items():
                    cost = run(checkout, roots[name], checkout / script, "--experiment", NAME)
                    costs[script, name] += [cost] if number else []
        differ = compare_results.main(*(root / "results" / NAME for root in roots.values()))
    if differ:
        raise RuntimeError("the checkouts' results are not the same")
    rows = [row(script, name, costs[script, name]) for script in SCRIPTS for name in checkouts]
    ratios = {script: ratio([costs[script, name] for name in checkouts]) for script in SCRIPTS}
    both = [[join(*pair) for pair in zip(*(costs[script, name] for script in SCRIPTS), strict=True)] for name in checkouts]
    ratios["both"] = ratio(both)
    content = {"before": commit(checkouts["before"]), "after": commit(CHECKOUT), "rows": rows, "ratios": ratios}
    path = common.write_result("analysis_speed", "cpu", content, ("pandas", "pyarrow", "scipy", "matplotlib"))
    told = ", ".join(f"{name} {found['median']} ({found['min']} to {found['max']})" for name, found in ratios.items())
    return f"wrote {path}; before / after in seconds: {told}; every score file and CSV is the same"


def make_root(checkout: Path, root: Path, data: Path) -> None:
    """Train, score and add the stand-ins, by a checkout's own code."""
    shutil.copytree(checkout / "data" / "subset_indices", root / "data" / "subset_indices")
    (root / "data" / "MNIST").symlink_to(data / "MNIST")
    shutil.copy(checkout / "random_seeds.pt", root)
    run(checkout, root, checkout / "run_cnn_training.py", *EXPERIMENT)
    run(checkout, root, checkout / "tda_cnn_scripts" / "run_cnn_gd_and_gc.py", *EXPERIMENT)
    scores = root / "results" / NAME / "tda_scores"
    run(checkout, root, CHECKOUT / "benchmarks" / "stand_in_scores.py", str(scores), STAND_INS)


def run(checkout: Path, root: Path, script: Path, *arguments: str) -> Cost:
    """Run a script with a checkout's code in a root folder; raises RuntimeError with its last lines if it fails."""
    environment = os.environ | {"TDA_ROOT": str(root), "PYTHONPATH": str(checkout)}
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, script, *arguments], env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"{script} ended with {process.returncode}: {output.read().decode()[-2000:]}")
    cost = Cost(seconds, usage.ru_utime + usage.ru_stime, round(usage.ru_maxrss / 1024))
    sys.stderr.write(f"{script.name} of {checkout}: {cost.seconds:.2f} s, {cost.processor_seconds:.2f} s of processors\n")
    return cost


def join(first: Cost, second: Cost) -> Cost:
    """One run after another."""
    seconds, processor_seconds = first.seconds + second.seconds, first.processor_seconds + second.processor_seconds
    return Cost(seconds, processor_seconds, max(first.peak_mib, second.peak_mib))


def row(script: str, name: str, costs: list[Cost]) -> dict:
    """A line of the table."""
    return {
        "script": script,
        "checkout": name,
        **spread([cost.seconds for cost in costs]),
        "processor_seconds": rounded(statistics.median(cost.processor_seconds for cost in costs)),
        "peak_mib": max(cost.peak_mib for cost in costs),
    }


def ratio(costs: list[list[Cost]]) -> dict:
    """Before over after, of runs that stood beside each other: seconds, and seconds of the processors."""
    pairs = list(zip(*costs, strict=True))
    by_clock = [before.seconds / after.seconds for before, after in pairs]
    by_processor = [before.processor_seconds / after.processor_seconds for before, after in pairs]
    found = {"median": statistics.median(by_clock), "min": min(by_clock), "max": max(by_clock)}
    return {key: rounded(value, 3) for key, value in (found | {"processors": statistics.median(by_processor)}).items()}


def commit(checkout: Path) -> str:
    """The commit of a checkout, with a plus where files differ from it."""
    git = ("git", "-C", str(checkout))
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True).stdout
    return head + ("+" if changed else "")


if __name__ == "__main__":
    common.run(Settings, main)
