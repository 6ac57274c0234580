"""The whole cnn_mnist3_10pc study of ten seeds from nothing: training, every scoring script, the statistics.

Runs the project's scripts as a user does, into a temporary TDA_ROOT that has the checkout's data, and measures each one's wall
time and peak memory. The MNIST files must be in data/. Writes benchmarks/results/study.json.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import common
from common import CHECKOUT


@dataclass
class Settings:
    """The constants to edit."""

    device: str = "auto"
    """Device to compute on: cpu, cuda, or auto."""
    sizes: str = "10"
    """Training examples per class, separated by commas; the whole study is 10,20,50."""
    task: str = "mnist3"
    """Task of the study."""
    seed_id: int | None = None
    """Only this seed, for a trial; the statistics are then left out."""


def steps(task: str, num_per_class: int, device: str, seed_id: int | None) -> list[list[str]]:
    """The commands of one experiment, in order."""
    experiment = ["--model", "cnn", "--task", task, "--num_per_class", str(num_per_class), "--device", device]
    experiment += [] if seed_id is None else ["--seed_id", str(seed_id)]
    scoring = ["run_cnn_gd_and_gc.py", "run_cnn_if.py", "run_cnn_loo.py", "run_cnn_ats.py"]
    name = f"cnn_{task}_{num_per_class}pc"
    scores = [
        ["run_subset_generation.py", "--task", task, "--num_per_class", str(num_per_class)],
        ["run_cnn_training.py", *experiment],
        *([f"tda_cnn_scripts/{script}", *experiment] for script in scoring),
    ]
    statistics = [[script, "--experiment", name] for script in ("run_compute_pvalues.py", "run_correlation_analysis.py")]
    return scores + (statistics if seed_id is None else [])


def measured(command: list[str]) -> dict:
    """Run one script; its wall seconds, processor seconds and peak memory. Ends the benchmark if the script fails."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([sys.executable, *command], cwd=CHECKOUT, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        said.seek(0)
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said.read()[-2000:]}")
    sys.stderr.write(f"{command[0]}: {seconds:.1f} s, peak {usage.ru_maxrss // 1024} MiB\n")
    return {
        "step": " ".join(command),
        "seconds": common.rounded(seconds),
        "processor_seconds": common.rounded(usage.ru_utime + usage.ru_stime),
        "peak_mib": usage.ru_maxrss // 1024,
    }


def main(settings: Settings) -> str:
    """Run every step and write the result."""
    rows = []
    with common.temporary_root():
        for size in settings.sizes.split(","):
            commands = steps(settings.task, int(size), settings.device, settings.seed_id)
            rows += [measured(command) for command in commands]
    # Only now, since a child's peak counts what its parent held when it started it.
    device = common.default_device() if settings.device == "auto" else settings.device
    content = {
        "rows": rows,
        "seconds": common.rounded(sum(row["seconds"] for row in rows)),
        "peak_mib": max(row["peak_mib"] for row in rows),
        "runs": 1,
    }
    return f"wrote {common.write_result('study', device, content)}"


if __name__ == "__main__":
    common.run(Settings, main)
