"""Mistakes, kills, signals, full disks, short memory and second writers, and what comes of them; fills docs/robustness.md.

    python benchmarks/robustness.py                    everything, about an hour of two CPU cores
    python benchmarks/robustness.py --only arguments   a part: arguments, files, traker, kills, signals, limits, writers

A case counts as handled if the process ends with status 2 and one sentence, without a traceback, in 90 seconds and with
every finished file as it was; or, where a file was spoilt that a step can make again, with status 0 and the bytes of the
undisturbed study.
A kill, a signal or a limit counts as survived if the same command, run again, ends with the bytes of the undisturbed study.
"""

import argparse
import hashlib
import os
import random
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from common import CHECKOUT, write_result
from robustness_cases import EXPERIMENT, SUBSETS, Case, argument_cases, file_cases, prepare
from robustness_traker import traker_cases

STEPS = {
    "run_subset_generation.py": ("--task", "digits3", "--num_per_class", "2"),
    "run_cnn_training.py": EXPERIMENT,
    "run_tda.py": EXPERIMENT,
    "tda_cnn_scripts/run_cnn_s_test.py": EXPERIMENT,
    "run_subset_retraining.py": (*EXPERIMENT, *SUBSETS),
    "run_compute_pvalues.py": EXPERIMENT,
    "run_correlation_analysis.py": EXPERIMENT,
    "run_lds_evaluation.py": (*EXPERIMENT, *SUBSETS),
    "run_removal_evaluation.py": (*EXPERIMENT, "--num_test", "2", "--num_retrainings", "1", "--shares", "0.3"),
    "run_mislabel_detection.py": (*EXPERIMENT, "--share", "0.3"),
    "run_feature_attribution.py": (*EXPERIMENT, "--tests", "spread", "--num_test", "2", "--smoothing_copies", "0"),
    "run_map_truth_test.py": (*EXPERIMENT, "--num_test", "2"),
}
PRODUCTS = ("data/**/*", "models/**/*.safetensors", "results/**/*.parquet", "results/**/*.csv", "results/**/*.safetensors")
_LONGEST = 90


def main() -> None:
    """Run the chosen parts and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="one part alone")
    parser.add_argument("--kills", type=int, default=110, help="how many processes are killed")
    parser.add_argument("--signals", type=int, default=60, help="how many processes are interrupted")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, seconds = undisturbed(Path(folder) / "study")
        parts: dict[str, Callable[[], list[dict]]] = {
            "arguments": lambda: [outcome(case, root) for case in argument_cases()],
            "files": lambda: [outcome(case, root) for case in file_cases()],
            "traker": traker_cases,
            "kills": lambda: kills(root, seconds, chosen.kills),
            "signals": lambda: signals(root, seconds, chosen.signals),
            "limits": lambda: limits(root),
            "writers": lambda: writers(root),
        }
        for name, part in parts.items():
            if chosen.only in ("", name):
                rows = part()
                failed = [row for row in rows if not row["handled"]]
                for row in failed:
                    print(f"  {row['title']}: {row['reason']}")
                counts = dict(Counter(row["kind"] for row in rows))
                print(f"{name}: {len(rows)} tried, {len(rows) - len(failed)} handled; {counts}", flush=True)
                content = {"tried": len(rows), "handled": len(rows) - len(failed), "kinds": counts, "failed": failed}
                write_result(f"robustness_{name}", "cpu", content)


def environment(root: Path) -> dict[str, str]:
    """What a script's process runs with."""
    kept = {"TDA_ROOT": str(root), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    return os.environ | kept


def start(script: str, arguments: tuple[str, ...], root: Path, **options: object) -> subprocess.Popen:
    """A script's process, from a working directory that is not the checkout."""
    command = [sys.executable, str(CHECKOUT / script), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=root.parent, env=environment(root), **pipes, **options)


def undisturbed(root: Path) -> tuple[Path, dict[str, float]]:
    """A study of three seeds of digits3, two images a class, and the seconds that each step took."""
    import torch

    root.mkdir(parents=True)
    torch.save(torch.tensor([11, 22, 33]), root / "random_seeds.pt")
    seconds = {}
    for script, arguments in STEPS.items():
        begun = time.perf_counter()
        process = start(script, arguments, root)
        _, errors = process.communicate()
        if process.returncode:
            sys.exit(f"{script} does not run: {errors}")
        seconds[script] = time.perf_counter() - begun
    prepare(root)
    return root, seconds


def contents(root: Path) -> dict[str, str]:
    """Hashes of every product by relative path."""
    paths = {path for pattern in PRODUCTS for path in root.glob(pattern) if path.is_file() and not path.name.startswith(".")}
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}


def copy_of(root: Path, folder: Path) -> Path:
    """A copy of a study that shares its files' content: a step replaces files, it never writes into them."""
    shutil.copytree(root, folder, copy_function=os.link, symlinks=True)
    return folder


def outcome(case: Case, reference: Path) -> dict:
    """What a mistake ends in, in a process of its own that need not import everything anew."""
    with tempfile.TemporaryDirectory() as folder:
        root = copy_of(reference, Path(folder) / "root")
        if case.spoil is not None:
            case.spoil(root)
        before = contents(root)
        status, errors, seconds = forked(case, root)
        after = contents(root)
        kept = all(after.get(path) == content for path, content in before.items())
        reason = judged(case, status, errors, seconds, kept, after == contents(reference))
    return {"kind": case.kind, "title": case.title, "handled": not reason, "reason": reason}


def judged(case: Case, status: int, errors: str, seconds: float, kept: bool, whole: bool) -> str:
    """Why a case is not handled; empty where it is."""
    lines = [line for line in errors.strip().splitlines() if line.strip()]
    if case.may_recompute and status == 0:
        return "" if whole else "done anew, with other bytes"
    if seconds >= _LONGEST:
        return "no end within a minute and a half"
    if status != 2:
        return f"status {status}: {lines[-1] if lines else ''}"
    if len(lines) != 1 or not lines[0].startswith("error: "):
        return f"{len(lines)} lines: {lines[-1] if lines else ''}"
    if case.names not in lines[0]:
        return f"does not say {case.names}: {lines[0]}"
    return "" if kept else "finished files changed"


def forked(case: Case, root: Path) -> tuple[int, str, float]:
    """Run a script in a fork of this process, which has imported the libraries; returns status, standard error, seconds."""
    import pandas  # noqa: F401
    import torch  # noqa: F401

    with tempfile.TemporaryFile("w+") as errors:
        begun, child = time.perf_counter(), os.fork()
        if child == 0:
            _be_the_script(case, root, errors.fileno())
        status = None
        while status is None and time.perf_counter() - begun < _LONGEST:
            found, code = os.waitpid(child, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if found else None
            time.sleep(0.01)
        if status is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        errors.seek(0)
        return -9 if status is None else status, errors.read(), time.perf_counter() - begun


def _be_the_script(case: Case, root: Path, errors: int) -> None:
    status = 1
    try:
        os.environ.update(environment(root))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(errors, 2)
        sys.argv = [str(CHECKOUT / case.script), *case.arguments]
        runpy.run_path(sys.argv[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def before_step(reference: Path, folder: Path, script: str) -> Path:
    """The study as it was before a step ran: without the files that are newer than the step before it."""
    root = copy_of(reference, folder)
    for path in _products_of(script, root):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return root


def _products_of(script: str, root: Path) -> list[Path]:
    results = root / "results" / "cnn_digits3_2pc"
    patterns = {
        "run_subset_generation.py": [root.glob("data/subset_indices/digits3/train_2pc.txt")],
        "run_cnn_training.py": [root.glob("models/cnn")],
        "run_tda.py": [results.glob("tda_scores"), results.glob("ensemble_scores_*")],
        "tda_cnn_scripts/run_cnn_s_test.py": [results.glob("s_test")],
        "run_subset_retraining.py": [results.glob("retrainings")],
        "run_compute_pvalues.py": [results.glob(name) for name in ("*values*", "pvalue_*", "summary.csv", "attributions*")],
        "run_correlation_analysis.py": [results.glob("correlation_*")],
        "run_lds_evaluation.py": [results.glob("lds*")],
        "run_removal_evaluation.py": [results.glob("removal*")],
        "run_mislabel_detection.py": [results.glob("mislabel*")],
        "run_feature_attribution.py": [results.glob("feature_attribution")],
        "run_map_truth_test.py": [results.glob("map_truth*")],
    }
    return [path for found in patterns[script] for path in found]


def again(script: str, root: Path, reference: dict[str, str]) -> str:
    """Run a step to its end; what is wrong with its products, empty where nothing is."""
    process = start(script, STEPS[script], root)
    _, errors = process.communicate()
    if process.returncode:
        return f"the same command then ends with {process.returncode}: {errors.strip()[-200:]}"
    if contents(root) != reference:
        return "the same command then leaves other bytes"
    return "temporary files are left" if list(root.rglob("*.tmp")) else ""


def kills(reference: Path, seconds: dict[str, float], count: int) -> list[dict]:
    """Kill steps at random moments, two or three times in a row, then let them end."""
    generator, whole, rows = random.Random(0), contents(reference), []
    while len(rows) < count:
        for script in STEPS:
            with tempfile.TemporaryDirectory() as folder:
                root, hits = before_step(reference, Path(folder) / "root", script), 0
                for share in (generator.uniform(0, 0.6), generator.uniform(0.5, 1), generator.uniform(0.6, 1)):
                    process = start(script, STEPS[script], root)
                    time.sleep(share * seconds[script])
                    hits += process.poll() is None
                    process.kill()
                    process.communicate()
                reason = again(script, root, whole)
            rows += [{"kind": script, "title": f"{script} killed", "handled": not reason, "reason": reason}] * hits
    return rows


def signals(reference: Path, seconds: dict[str, float], count: int) -> list[dict]:
    """Interrupt steps at random moments, half of them within the first second."""
    generator, whole, rows = random.Random(1), contents(reference), []
    while len(rows) < count:
        script = list(STEPS)[len(rows) % len(STEPS)]
        with tempfile.TemporaryDirectory() as folder:
            root = before_step(reference, Path(folder) / "root", script)
            process = start(script, STEPS[script], root)
            first = len(rows) % 2 == 0
            time.sleep(generator.uniform(0.15, 1.0) if first else generator.uniform(0.3, 0.95) * seconds[script])
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
            lines = [line for line in errors.replace("\r", "\n").splitlines() if line.strip() and "it/s" not in line]
            ended = process.returncode == 0 or (process.returncode == 130 and lines and lines[-1].startswith("interrupted"))
            reason = "" if ended and "Traceback" not in errors else f"status {process.returncode}: {errors.strip()[-200:]}"
            reason = reason or again(script, root, whole)
        kind = "first second" if first else "later"
        rows.append({"kind": kind, "title": f"{script} interrupted", "handled": not reason, "reason": reason})
    return rows


def limits(reference: Path) -> list[dict]:
    """Files that may not grow, and address space that may not either, for every step."""
    whole, rows = contents(reference), []
    caps = {"disk full": (resource.RLIMIT_FSIZE, (512, 20_000)), "memory short": (resource.RLIMIT_AS, (3 * 2**29, 2**31))}
    for kind, (limit, sizes) in caps.items():
        for script in STEPS:
            for size in sizes:

                def restrict(limit: int = limit, size: int = size) -> None:
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(limit, (size, size))

                with tempfile.TemporaryDirectory() as folder:
                    root = before_step(reference, Path(folder) / "root", script)
                    process = start(script, STEPS[script], root, preexec_fn=restrict)
                    _, errors = process.communicate()
                    sentence = process.returncode == 2 and errors.strip().splitlines()[-1].startswith("error: ")
                    ended = process.returncode == 0 or (sentence and "Traceback" not in errors)
                    reason = "" if ended else f"status {process.returncode}: {errors.strip()[-200:]}"
                    reason = reason or again(script, root, whole)
                rows.append({"kind": kind, "title": f"{script}, {size} bytes", "handled": not reason, "reason": reason})
    return rows


def writers(reference: Path) -> list[dict]:
    """Two processes at the same step."""
    whole, rows = contents(reference), []
    for script in STEPS:
        with tempfile.TemporaryDirectory() as folder:
            root = before_step(reference, Path(folder) / "root", script)
            both = [start(script, STEPS[script], root) for _ in range(2)]
            ended = [process.communicate()[1] for process in both]
            reason = "" if all(process.returncode == 0 for process in both) else f"{ended[0][-150:]} {ended[1][-150:]}"
            reason = reason or ("" if contents(root) == whole else "other bytes")
        rows.append({"kind": "two writers", "title": script, "handled": not reason, "reason": reason})
    return rows


if __name__ == "__main__":
    main()
