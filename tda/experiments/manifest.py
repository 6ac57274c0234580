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

from tda.experiments.folders import Experiment, ResultsFolder
from tda.experiments.variant_names import variant_name
from tda.system.errors import UserError
from tda.system.files import locked, reading, sha256, write_text
from tda.system.memory import peak_memory_bytes

_PACKAGES = ("torch", "torchvision", "transformers", "peft", "numpy", "scipy", "scikit-learn", "pandas")


def versions() -> dict[str, str]:
    """Versions of the libraries that numbers depend on."""
    return {name: metadata.version(name) for name in _PACKAGES}


def read_manifest(folder: ResultsFolder) -> dict:
    """The manifest as plain values, in the shape that step() writes.

    Raises UserError if it is missing, unreadable or of another shape.
    """
    content = _manifest_if_any(folder)
    if content is None:
        raise UserError(
            f"there is no experiment {folder.name}: {folder.manifest} is missing; run the training and scoring scripts first"
        )
    return content


class NamesExperiment(Protocol):
    """Settings that name an experiment, by its name or by its parts."""

    experiment: str | None
    model: str
    task: str
    num_per_class: int
    variant: str


def _manifest_if_any(folder: ResultsFolder) -> dict | None:
    try:
        with reading(folder.manifest):
            content = json.loads(folder.manifest.read_text(encoding="utf-8"))
        _check_shape(content)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, _ShapeError) else "it is no JSON"
        mend = "delete it and run the training script again, which writes it anew, or mend it"
        raise UserError(f"{folder.manifest} is damaged; {mend}: {reason}") from error
    return content


class _ShapeError(ValueError):
    """What of a manifest is not as step() writes it."""


def _check_shape(content: object) -> None:
    """Raise _ShapeError unless a manifest's values are of the kinds that its readers rely on."""
    for key in ("experiment", "steps"):
        _check(content, key, dict, "the file")
    experiment = content["experiment"]
    for key in ("model", "task", "variant"):
        _check(experiment, key, str, "experiment")
    _check(experiment, "num_per_class", int, "experiment")
    unknown = sorted(set(experiment) - set(Experiment.__dataclass_fields__))
    if unknown:
        raise _ShapeError(f"experiment has the unknown key {unknown[0]}")
    for name, entry in content["steps"].items():
        place = f"step {name}"
        for key, kind in (("arguments", dict), ("seeds", list), ("versions", dict), ("wall_seconds", float)):
            _check(entry, key, kind, place)
        _check(entry["versions"], "torch", str, f"versions of {place}")
        if "methods" in entry["arguments"]:
            _check(entry["arguments"], "methods", dict | list | str, f"arguments of {place}")


_SHAPES = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    dict | list | str: "an object",
}


def _check(container: object, key: str, kind: type, place: str) -> None:
    if not isinstance(container, dict):
        raise _ShapeError(f"{place} is {json.dumps(container)[:40]} instead of an object")
    if key not in container:
        raise _ShapeError(f"{place} has no {key}")
    value = container[key]
    if not isinstance(value, int | float if kind is float else kind) or isinstance(value, bool):
        raise _ShapeError(f"{key} of {place} is {json.dumps(value)[:40]} instead of {_SHAPES[kind]}")


def experiment_of(folder: ResultsFolder) -> Experiment:
    """The experiment whose results a folder holds; raises UserError as read_manifest does."""
    return Experiment(**read_manifest(folder)["experiment"])


def chosen_experiment(settings: NamesExperiment) -> Experiment:
    """The experiment that settings name; what a mere name stands for is read from its manifest.

    Raises UserError as read_manifest and variant_name do, and for a copy of an experiment under another name.
    """
    if settings.experiment is None:
        return Experiment(settings.model, settings.task, settings.num_per_class, variant_name(settings.variant))
    folder = ResultsFolder(settings.experiment)
    found = experiment_of(folder)
    if found.name != folder.path.name:
        raise UserError(
            f"{folder.path} holds the results of {found.name} under another name, and what is computed of them would go to "
            f"{found.results.path}; name that, or give the folder its name back"
        )
    return found


@dataclass(frozen=True)
class Part:
    """One of several works that a step does together, each with a record of its own: its arguments beside the step's.

    keep_earlier: as in a Record; goes_on: whether it adds to what an earlier run of these or fewer seeds has finished, whose
    seconds are added. What a killed run took is known nowhere.
    """

    kind: str
    arguments: dict
    seconds: float
    keep_earlier: bool
    goes_on: bool = False


@dataclass
class Record:
    """What a step tells of itself; keep_earlier leaves the record of the run that did the work untouched.

    If tables or figures were made anew and are other ones, the record is of them, and of the seconds of both runs.

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
        content = _manifest_if_any(folder) or {"steps": {}}
        content["experiment"] = vars(experiment)
        for part in parts:
            name = f"{part.kind}, {share}" if share else part.kind
            earlier = content["steps"].get(name, {})
            if not (part.keep_earlier and earlier and common["files"].items() <= earlier.get("files", {}).items()):
                adds = (part.goes_on or part.keep_earlier) and set(earlier.get("seeds", ())) <= set(seeds)
                seconds = round((earlier.get("wall_seconds", 0.0) if adds else 0.0) + part.seconds + shared, 2)
                entry = {"arguments": arguments | named | part.arguments, "wall_seconds": seconds}
                content["steps"][name] = entry | common
        write_text(folder.manifest, json.dumps(content, indent=2, sort_keys=True) + "\n")


def records_of(folder: ResultsFolder, kind: str) -> list[dict]:
    """The records of all steps of a kind, whatever their shares; raises UserError as read_manifest does."""
    steps = read_manifest(folder)["steps"]
    return [entry for name, entry in steps.items() if name.partition(", ")[0] == kind]


def _check_version(folder: ResultsFolder) -> None:
    content = _manifest_if_any(folder) or {"steps": {}}
    for name, entry in content["steps"].items():
        if entry["versions"]["torch"] != metadata.version("torch"):
            raise UserError(
                f"{folder.manifest} says that {name} ran with torch {entry['versions']['torch']}, but this is torch "
                f"{metadata.version('torch')}; install that version, or move {folder.path} and its models away"
            )


def _git_commit() -> str | None:
    """Commit of the code that runs, wherever its results go; None where it is not a checkout of git."""
    code = Path(__file__).parents[2]
    # A package that lies in somebody else's repository has no commit of its own.
    if not (code / ".git").exists():
        return None
    command = ["git", "-C", str(code), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
