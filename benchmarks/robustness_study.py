"""A small study that robustness.py disturbs: how it is made, copied, taken back before a step, and compared."""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common import CHECKOUT
from robustness_cases import EXPERIMENT, SUBSETS, prepare

PROGRAM = "benchmarks/robustness_program.py"
_SCORED = ("grad_dot", "trak", "ekfac", "repsim")
STEPS = {
    "run_subset_generation.py": ("--task", "digits3", "--num_per_class", "2"),
    "run_cnn_training.py": EXPERIMENT,
    "run_tda.py": (*EXPERIMENT, "--methods", ",".join(_SCORED)),
    "tda_cnn_scripts/run_cnn_s_test.py": EXPERIMENT,
    "run_subset_retraining.py": (*EXPERIMENT, *SUBSETS),
    "run_compute_pvalues.py": EXPERIMENT,
    "run_correlation_analysis.py": EXPERIMENT,
    "run_lds_evaluation.py": (*EXPERIMENT, *SUBSETS),
    "run_removal_evaluation.py": (*EXPERIMENT, "--num_test", "2", "--num_retrainings", "1", "--shares", "0.3"),
    "run_mislabel_detection.py": (*EXPERIMENT, "--share", "0.3"),
    "run_feature_attribution.py": (*EXPERIMENT, "--tests", "spread", "--num_test", "2", "--smoothing_copies", "0"),
    "run_map_truth_test.py": (*EXPERIMENT, "--num_test", "2"),
    PROGRAM: (),
}
PRODUCTS = ("data/**/*", "models/**/*.safetensors", "results/**/*.parquet", "results/**/*.csv", "results/**/*.safetensors")
PRODUCTS += ("traker/**/*",)


@dataclass(frozen=True)
class Attempt:
    """One disturbance, or several in a row: `run` gives for each why it was not survived, empty where it was."""

    kind: str
    title: str
    run: Callable[[], list[str]]


@dataclass(frozen=True)
class Measured:
    """A step's seconds, its largest address space in bytes, and the products that it made."""

    seconds: float
    address_space: int
    products: list[str]


@dataclass(frozen=True)
class Reference:
    """The undisturbed study, and what was measured of each step."""

    root: Path
    steps: dict[str, Measured]

    @functools.cached_property
    def contents(self) -> dict[str, str]:
        """Hashes of every product."""
        return contents(self.root)


def environment(root: Path) -> dict[str, str]:
    """What a script's process runs with."""
    kept = {"TDA_ROOT": str(root), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    return os.environ | kept


def start(script: str, root: Path, **options: object) -> subprocess.Popen:
    """A step's process, from a working directory that is not the checkout."""
    command = [sys.executable, str(CHECKOUT / script), *STEPS[script]]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=root.parent, env=environment(root), **pipes, **options)


def undisturbed(folder: Path) -> Reference:
    """A study of three seeds of digits3, two images a class; made once for a folder."""
    import torch

    root, measured = folder / "study", folder / "study.json"
    if not measured.exists():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        torch.save(torch.tensor([11, 22, 33]), root / "random_seeds.pt")
        found = {}
        for script, arguments in STEPS.items():
            if script == "run_tda.py":
                # All methods are there for the steps that follow; some of them are what is disturbed.
                _measured(script, EXPERIMENT, root)
                for method in _SCORED:
                    for path in (root / "results").glob(f"*/*/{method}"):
                        shutil.rmtree(path)
            found[script] = vars(_measured(script, arguments, root))
        prepare(root)
        measured.write_text(json.dumps(found))
    return Reference(root, {script: Measured(**step) for script, step in json.loads(measured.read_text()).items()})


def _measured(script: str, arguments: tuple[str, ...], root: Path) -> Measured:
    """Run a step."""
    before, begun, peak = contents(root), time.perf_counter(), 0
    with open(root.parent / "errors.txt", "w+") as errors:
        process = subprocess.Popen(
            [sys.executable, str(CHECKOUT / script), *arguments],
            cwd=root.parent, env=environment(root), stdout=subprocess.DEVNULL, stderr=errors,
        )  # fmt: skip
        while process.poll() is None:
            peak = max(peak, _address_space(process.pid))
            time.sleep(0.02)
        errors.seek(0)
        if process.returncode:
            sys.exit(f"{script} does not run: {errors.read()}")
    return Measured(time.perf_counter() - begun, peak, sorted(contents(root).keys() - before.keys()))


def _address_space(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmPeak")]
    return int(lines[0][1]) * 1024 if lines else 0


def contents(root: Path) -> dict[str, str]:
    """Hashes of every product by relative path."""
    paths = {path for pattern in PRODUCTS for path in root.glob(pattern) if path.is_file() and not path.name.startswith(".")}
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}


def copy_of(root: Path, folder: Path) -> Path:
    """A copy of a study that shares its files' content: a step replaces files, it never writes into them. TRAKer does."""
    shutil.copytree(root, folder, copy_function=os.link, symlinks=True, ignore=shutil.ignore_patterns("traker"))
    if (root / "traker").exists():
        shutil.copytree(root / "traker", folder / "traker")
    return folder


def before_step(reference: Reference, folder: Path, script: str) -> Path:
    """The study as it was before a step ran: without its products."""
    root = copy_of(reference.root, folder)
    for product in reference.steps[script].products:
        (root / product).unlink()
    return root


def again(script: str, root: Path, reference: Reference) -> str:
    """Run a step to its end; what is wrong with its products, empty where nothing is."""
    process = start(script, root)
    _, errors = process.communicate()
    if process.returncode:
        return f"the same command then ends with {process.returncode}: {errors.strip()[-200:]}"
    found, whole = contents(root), reference.contents
    if found != whole:
        differing = [path for path in found.keys() | whole.keys() if found.get(path) != whole.get(path)]
        return f"the same command then leaves other bytes: {', '.join(sorted(differing)[:3])}"
    return "temporary files are left" if list(root.rglob("*.tmp")) else ""
