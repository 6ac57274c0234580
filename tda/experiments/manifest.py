"""results/<experiment>/manifest.json: what was computed by which step, with what, when and at what cost."""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Protocol

from tda.experiments.folders import Experiment, ResultsFolder, root
from tda.system.errors import UserError
from tda.system.files import locked, sha256, write_text
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


class NamesExperiment(Protocol):
    """Settings that name an experiment, by its name or by its three parts."""

    experiment: str | None
    model: str
    task: str
    num_per_class: int


def experiment_of(folder: ResultsFolder) -> Experiment:
    """The experiment whose results a folder holds; raises UserError as read_manifest does."""
    return Experiment(**read_manifest(folder)["experiment"])


def chosen_experiment(settings: NamesExperiment) -> Experiment:
    """The experiment that settings name; what a mere name stands for is read from its manifest.

    Raises UserError as read_manifest does.
    """
    if settings.experiment is None:
        return Experiment(settings.model, settings.task, settings.num_per_class)
    return experiment_of(ResultsFolder(settings.experiment))


@dataclass(frozen=True)
class Part:
    """One of several works that a step does together, each with a record of its own: its arguments beside the step's."""

    kind: str
    arguments: dict
    seconds: float
    keep_earlier: bool


@dataclass
class Record:
    """What a step tells of itself; keep_earlier leaves the record of the run that did the work untouched.

    parts: the works that it is recorded as, where it is not a single one. What of its time is none's own, they share equally.
    files: tables and figures that it wrote into the folder; made_from: hashes of what they are made from, by name.
    """

    keep_earlier: bool = False
    parts: list[Part] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    made_from: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def step(
    experiment: Experiment,
    kind: str,
    arguments: dict,
    hashes: dict[str, str],
    device: str = "cpu",
    seeds: Sequence[int] = (),
    share: str = "",
) -> Iterator[Record]:
    """Record a step that ends without an error: its arguments, input hashes, versions, device, wall time and peak memory.

    share: which share of the kind's work it does, such as "seed 3"; shares have records beside each other.
    Raises UserError before anything is computed if the folder's other steps ran with another torch version.
    """
    folder = experiment.results
    _check_version(folder)
    start, record = time.perf_counter(), Record()
    yield record
    wall = time.perf_counter() - start
    common = {
        "seeds": list(seeds),
        "versions": versions(),
        "device": device,
        "git_commit": _git_commit(),
        "input_sha256": hashes,
        "made_from": record.made_from,
        "files": {path.name: sha256(path.read_bytes()) for path in record.files},
        "peak_memory_mib": round(peak_memory_bytes() / 2**20),
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    named = {key: value for key, value in vars(experiment).items() if key in arguments}
    parts = record.parts or [Part(kind, {}, wall, record.keep_earlier)]
    shared = (wall - sum(part.seconds for part in parts)) / len(parts)
    with locked(folder.manifest):
        content = read_manifest(folder) if folder.manifest.exists() else {"steps": {}}
        content["experiment"] = vars(experiment)
        for part in parts:
            name = f"{part.kind}, {share}" if share else part.kind
            if not (part.keep_earlier and name in content["steps"]):
                entry = {"arguments": arguments | named | part.arguments, "wall_seconds": round(part.seconds + shared, 2)}
                content["steps"][name] = entry | common
        write_text(folder.manifest, json.dumps(content, indent=2, sort_keys=True) + "\n")


def records_of(folder: ResultsFolder, kind: str) -> list[dict]:
    """The records of all steps of a kind, whatever their shares; raises UserError as read_manifest does."""
    steps = read_manifest(folder)["steps"]
    return [entry for name, entry in steps.items() if name.partition(", ")[0] == kind]


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
