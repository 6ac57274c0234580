"""How long scripts take until they work, in units of `import torch` in the same run.

In turns, each in a process of its own: the interpreter alone, `import torch`, --help, a wrong argument, and scripts that are
stopped as soon as they open the first file below the root folder, that is, once everything they need first is imported.
Writes benchmarks/results/start_up.json.
"""

import os
import shlex
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import common
from common import CHECKOUT, rounded, spread

STOPPED_AT_WORK = """
import os, runpy, sys

def stop(event, arguments):
    if event == "open" and str(arguments[0]).startswith(os.environ["TDA_ROOT"]):
        os._exit(0)

sys.addaudithook(stop)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
sys.exit("the script ended without opening a file of the root folder")
"""

TORCH = "import torch"
ANSWERED = ("run_tda.py --help", "run_tda.py --no_such_argument", "run_vit_finetuning.py --help", "run_show_summary.py --help")
STOPPED = (
    "run_tda.py",
    "tda_cnn_scripts/run_cnn_gd_and_gc.py",
    "tda_cnn_scripts/run_cnn_trak.py",
    "tda_vit_scripts/run_vit_if.py",
    "run_cnn_training.py",
    "run_compute_pvalues.py",
    "run_correlation_analysis.py",
    "run_show_summary.py",
)


@dataclass(kw_only=True)
class Settings:
    """The constants to edit."""

    repeats: int = 9
    """Runs of each, in turns, after one that is not counted."""


def main(settings: Settings) -> str:
    """Measure and write the result."""
    commands = {"python": ["-c", "pass"], TORCH: ["-c", TORCH]}
    for line in ANSWERED:
        script, *arguments = shlex.split(line)
        commands[line] = [str(CHECKOUT / script), *arguments]
    for script in STOPPED:
        commands[f"{script}, to its work"] = ["-c", STOPPED_AT_WORK, str(CHECKOUT / script)]
    with common.temporary_root() as root:
        # Scores and a summary to open first, for the scripts that look whether there are any.
        folder = root / "results" / "cnn_digits3_10pc"
        for method in ("grad_dot", "loo"):
            scores = folder / "tda_scores" / method / "0" / "attribution_epoch_1.parquet"
            scores.parent.mkdir(parents=True)
            scores.touch()
        (folder / "summary.csv").touch()
        seconds = {name: [] for name in commands}
        for number in range(settings.repeats + 1):
            for name, command in commands.items():
                run = _seconds(command, root)
                seconds[name] += [run] if number else []
    torch = statistics.median(seconds[TORCH])
    rows = [
        {"contender": name, **spread(runs), "in_imports_of_torch": rounded(statistics.median(runs) / torch, 3)}
        for name, runs in seconds.items()
    ]
    path = common.write_result("start_up", "cpu", {"rows": rows})
    ratios = ", ".join(f"{row['contender']} {row['in_imports_of_torch']}" for row in rows)
    return f"wrote {path}; in units of `import torch`: {ratios}"


def _seconds(command: list[str], root: Path) -> float:
    environment = os.environ | {"TDA_ROOT": str(root), "PYTHONPATH": str(CHECKOUT)}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    elapsed = time.perf_counter() - start
    refused = "error: unknown argument" in done.stderr
    if done.returncode != 0 and not refused:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr[-2000:]}")
    return elapsed


if __name__ == "__main__":
    common.run(Settings, main)
