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
from tda.system.files import locked, reading, write_text
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
        content = _manifest_if_any(folder) or {"steps": {}}
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
    content = _manifest_if_any(folder) or {"steps": {}}
    for name, entry in content["steps"].items():
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
