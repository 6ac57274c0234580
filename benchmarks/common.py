"""What every benchmark shares: children with their own peak memory, repeats, device and versions, JSON files.

A script registers its contenders with `@contender` and runs each with `in_child` in a process of its own, so that neither
the peak memory nor the process settings of one can reach another.
"""

import inspect
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
sys.path.insert(0, str(CHECKOUT))

CONTENDERS: dict[str, Callable[..., "Outcome"]] = {}


@dataclass
class Outcome:
    """What a contender hands back: seconds of each run, arrays to compare, facts for the JSON."""

    seconds: list[float]
    arrays: dict = field(default_factory=dict)
    facts: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """An Outcome and the memory of its process in MiB; before_mib is what was resident before the first run."""

    seconds: list[float]
    arrays: dict
    facts: dict
    peak_mib: int
    before_mib: int

    def row(self, label: str, scale: float = 1.0, note: str = "") -> dict:
        """A line of a table: seconds of the whole work, which is `scale` times what ran."""
        scaled = [seconds * scale for seconds in self.seconds]
        row = {"contender": label, **spread(scaled), "peak_mib": self.peak_mib, "resident_before_mib": self.before_mib}
        row["scaled_by"] = round(scale, 3)
        return row | ({"note": note} if note else {}) | self.facts


def contender(function: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """Make a function of plain arguments available to in_child under its name."""
    CONTENDERS[function.__name__] = function
    return function


def run(settings_class: type, main: Callable[..., str]) -> None:
    """Entry point of a benchmark: a contender where in_child started this process, else the script itself."""
    if sys.argv[1:2] == ["--contender"]:
        _serve(*sys.argv[2:])
        return
    from tda.system.command_line import run as run_script

    run_script(settings_class(), inspect.getmodule(settings_class).__doc__, main)


def in_child(name: str, **arguments) -> Measured:
    """Run a registered contender of this script in a fresh process; raises RuntimeError with its last lines if it fails."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, sys.argv[0], "--contender", name, json.dumps(arguments), folder]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr[-2000:]}")
        answer = json.loads((Path(folder) / "answer.json").read_text())
        with np.load(Path(folder) / "arrays.npz") as arrays:
            found = {key: arrays[key] for key in arrays.files}
    measured = Measured(arrays=found, **answer)
    _say(f"{name} {arguments}: median {statistics.median(measured.seconds):.3f} s, peak {measured.peak_mib} MiB")
    return measured


def _serve(name: str, arguments: str, folder: str) -> None:
    import numpy as np

    outcome = CONTENDERS[name](**json.loads(arguments))
    np.savez(Path(folder) / "arrays.npz", **outcome.arrays)
    answer = {"seconds": outcome.seconds, "facts": outcome.facts, "peak_mib": _memory("VmHWM"), "before_mib": _before["mib"]}
    (Path(folder) / "answer.json").write_text(json.dumps(answer))


_before = {"mib": 0}


def _memory(key: str) -> int:
    """VmHWM (peak) or VmRSS of this process in MiB; unlike getrusage, it does not count the parent before exec."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return round(int(line.split()[1]) / 1024)
    raise KeyError(key)


def repeat(work: Callable[[], object], repeats: int, warm_up: int = 1) -> tuple[list[float], object]:
    """Seconds of each of `repeats` runs after `warm_up` untimed ones, and the last result; waits for a GPU."""
    import torch

    _before["mib"] = _before["mib"] or _memory("VmRSS")
    seconds, result = [], None
    for number in range(warm_up + repeats):
        start = time.perf_counter()
        result = work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number >= warm_up:
            seconds.append(time.perf_counter() - start)
    return seconds, result


def interleaved(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each run of each work, in turns, so that a slow moment of the machine hits all; one untimed run first."""
    seconds = {name: [] for name in works}
    for number in range(repeats + 1):
        for name, work in works.items():
            run_seconds, _ = repeat(work, 1, warm_up=0)
            seconds[name] += run_seconds if number else []
    return seconds


def spread(seconds: list[float]) -> dict:
    """Median, smallest and largest of the runs, and how many there were."""
    return {
        "seconds": rounded(statistics.median(seconds)),
        "min": rounded(min(seconds)),
        "max": rounded(max(seconds)),
        "runs": len(seconds),
    }


def with_plain_and_prepared(label: str, name: str, scale: float = 1.0, note: str = "", **arguments) -> tuple[list[dict], dict]:
    """Rows of a contender without and with this project's process settings, and the arrays of the first."""
    plainly = in_child(name, **arguments, prepared=False)
    tuned = in_child(name, **arguments, prepared=True)
    return [
        plainly.row(label, scale, note),
        tuned.row(f"{label}, this project's process settings", scale, note),
    ], plainly.arrays


def with_ratios(rows: list[dict]) -> dict:
    """The rows, each with its time in units of the first's."""
    return {"rows": [row | {"ratio": rounded(row["seconds"] / rows[0]["seconds"], 3)} for row in rows]}


def rounded(value: float, digits: int = 4) -> float:
    """A number with so many significant digits."""
    return float(f"{value:.{digits}g}")


def relative_error(found, reference) -> float:
    """Frobenius norm of the difference over that of the reference."""
    import numpy as np

    found, reference = np.asarray(found, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    return rounded(float(np.linalg.norm(found - reference) / np.linalg.norm(reference)), 2)


def device_name(device: str) -> str:
    """Model name of the processor with its threads, or name of the GPU."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, {len(os.sched_getaffinity(0))} threads"


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python, torch and the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in ("torch", "torchvision", "numpy", *packages):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_result(name: str, device: str, content: dict, packages: tuple[str, ...] = ()) -> Path:
    """Write benchmarks/results/<name>.json (on a GPU <name>_cuda.json) with command, device and versions; returns its path."""
    path = RESULTS / f"{name}{'_cuda' if device.startswith('cuda') else ''}.json"
    script = Path(sys.argv[0]).resolve().relative_to(CHECKOUT)
    command = shlex.join(["python", str(script), *sys.argv[1:]])
    found = {"command": command, "device": device_name(device), "versions": versions(*packages), **content}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    return path


def earlier(name: str, device: str, packages: tuple[str, ...] = ()) -> dict:
    """The content of an earlier run's file, by the same device and versions; else nothing."""
    path = RESULTS / f"{name}{'_cuda' if device.startswith('cuda') else ''}.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    same = content.get("device") == device_name(device) and content.get("versions") == versions(*packages)
    return {key: value for key, value in content.items() if key not in ("command", "device", "versions")} if same else {}


def default_device() -> str:
    """cuda where there is one, else cpu."""
    from tda.system.devices import pick_device

    return str(pick_device())


@contextmanager
def temporary_root() -> Iterator[Path]:
    """A TDA_ROOT with the checkout's data and seeds but with no models and results, for this process and its children."""
    with tempfile.TemporaryDirectory(prefix="tda-benchmark-") as folder:
        (Path(folder) / "data").mkdir()
        shutil.copytree(CHECKOUT / "data" / "subset_indices", Path(folder) / "data" / "subset_indices")
        for path in [CHECKOUT / "random_seeds.pt", *(CHECKOUT / "data").iterdir()]:
            if path.name != "subset_indices":
                (Path(folder) / path.relative_to(CHECKOUT)).symlink_to(path)
        before = os.environ.get("TDA_ROOT")
        os.environ["TDA_ROOT"] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["TDA_ROOT"]
            else:
                os.environ["TDA_ROOT"] = before


@contender
def trained_members(task: str, num_per_class: int, device: str) -> Outcome:
    """Train seed 0 of the two-layer CNN into the root, as the training script does."""
    from tda.experiments.folders import Experiment
    from tda.system.devices import prepare_process
    from tda.training.ensembles import train_ensemble
    from tda.training.study import open_study

    prepare_process()
    study = open_study(Experiment("cnn", task, num_per_class), device)
    seconds, _ = repeat(lambda: train_ensemble(study, [0], force=True), 1, warm_up=0)
    return Outcome(seconds)


def load(task: str, num_per_class: int, device: str, fast_layout: bool):
    """Seed 0's members, train and test split on the device; the layout of the library or the one that torch starts with."""
    import torch

    from tda.data.splits import Split
    from tda.experiments.folders import Experiment
    from tda.training.members import load_members
    from tda.training.study import open_study

    study = open_study(Experiment("cnn", task, num_per_class), device)
    members = load_members(study, 0, study.plan.kept_epochs)
    if fast_layout:
        return members, study.inputs(study.train), study.inputs(study.test)
    for member in members:
        member.model.to(memory_format=torch.contiguous_format)
    splits = (study.train, study.test)
    return members, *(Split(part.inputs.to(study.device), part.labels.to(study.device), part.indices) for part in splits)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
