"""results/<experiment>/manifest.json: what was computed by which step, with what, when and at what cost."""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata

from tda.experiments.folders import Experiment, ResultsFolder, root
from tda.system.errors import UserError
from tda.system.files import locked, write_text
from tda.system.memory import peak_memory_bytes

_PACKAGES = ("torch", "torchvision", "transformers", "peft", "numpy", "scipy", "scikit-learn", "pandas")


def versions() -> dict[str, str]:
    """Versions of the libraries that numbers depend on."""
    return {name: metadata.version(name) for name in _PACKAGES}


def read_manifest(folder: ResultsFolder) -> dict:
    """The manifest as plain values; raises UserError if it is missing or damaged."""
    try:
        content = json.loads(folder.manifest.read_text())
        content["experiment"]["task"], content["steps"]
    except FileNotFoundError as error:
        raise UserError(
            f"there is no experiment {folder.name}: {folder.manifest} is missing; run the training and scoring scripts first"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder.manifest} is damaged; delete it and run the training script again, which writes it anew"
        ) from error
    return content


def experiment_of(folder: ResultsFolder) -> Experiment:
    """The experiment whose results a folder holds; raises UserError as read_manifest does."""
    return Experiment(**read_manifest(folder)["experiment"])


@dataclass
class Record:
    """What a step tells of itself; keep_earlier leaves the record of the run that did the work untouched."""

    keep_earlier: bool = False


@contextlib.contextmanager
def step(
    experiment: Experiment,
    name: str,
    arguments: dict,
    hashes: dict[str, str],
    device: str = "cpu",
    seeds: Sequence[int] = (),
) -> Iterator[Record]:
    """Record a step that ends without an error: its arguments, input hashes, versions, device, wall time and peak memory.

    Raises UserError before anything is computed if the folder's other steps ran with another torch version.
    """
    folder = experiment.results
    _check_version(folder)
    start, record = time.perf_counter(), Record()
    yield record
    entry = {
        "arguments": arguments,
        "seeds": list(seeds),
        "versions": versions(),
        "device": device,
        "git_commit": _git_commit(),
        "input_sha256": hashes,
        "wall_seconds": round(time.perf_counter() - start, 2),
        "peak_memory_mib": round(peak_memory_bytes() / 2**20),
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    with locked(folder.manifest):
        content = read_manifest(folder) if folder.manifest.exists() else {"steps": {}}
        content["experiment"] = {
            "model": experiment.model,
            "task": experiment.task,
            "num_per_class": experiment.num_per_class,
            "variant": experiment.variant,
        }
        if not (record.keep_earlier and name in content["steps"]):
            content["steps"][name] = entry
        write_text(folder.manifest, json.dumps(content, indent=2, sort_keys=True) + "\n")


def _check_version(folder: ResultsFolder) -> None:
    if not folder.manifest.exists():
        return
    for name, entry in read_manifest(folder)["steps"].items():
        if entry["versions"]["torch"] != metadata.version("torch"):
            raise UserError(
                f"{folder.manifest} says that {name} ran with torch {entry['versions']['torch']}, but this is torch "
                f"{metadata.version('torch')}; install that version, or move {folder.path} and its models away"
            )


def _git_commit() -> str | None:
    command = ["git", "-C", str(root()), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
