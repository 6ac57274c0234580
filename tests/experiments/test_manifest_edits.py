"""Manifests that someone edited: each edit ends in one sentence, none in a traceback."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import EXPERIMENT, assert_refused, run_script

from tda.experiments.manifest import experiment_of, read_manifest, step
from tda.system.errors import UserError


@pytest.fixture
def written(root: Path) -> Path:
    """A manifest of one step."""
    with step(EXPERIMENT, "training", {"num_per_class": 2, "methods": {"trak": {}}}, {"train": "a"}, "cpu", [1, 2]):
        pass
    return EXPERIMENT.results.manifest


def edited(path: Path, edit: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def placed(*keys: str, value: object) -> Callable[[dict], None]:
    """Put a value where the keys lead."""

    def edit(content: dict) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return edit


def removed(*keys: str) -> Callable[[dict], None]:
    """Remove what the keys lead to."""

    def edit(content: dict) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return edit


ENTRY = ("steps", "training")
EDITS = [
    (removed("experiment"), "the file has no experiment"),
    (removed("steps"), "the file has no steps"),
    *((removed("experiment", key), f"experiment has no {key}") for key in ("model", "task", "num_per_class", "variant")),
    (placed("experiment", value=["cnn"]), r'experiment of the file is \["cnn"\] instead of an object'),
    (placed("experiment", value=None), "experiment of the file is null instead of an object"),
    (placed("experiment", "model", value=7), "model of experiment is 7 instead of a text"),
    (placed("experiment", "task", value=["digits3"]), "task of experiment is .* instead of a text"),
    (placed("experiment", "num_per_class", value="2"), 'num_per_class of experiment is "2" instead of a whole number'),
    (placed("experiment", "num_per_class", value=2.5), "num_per_class of experiment is 2.5 instead of a whole number"),
    (placed("experiment", "num_per_class", value=True), "num_per_class of experiment is true instead of a whole number"),
    (placed("experiment", "variant", value=None), "variant of experiment is null instead of a text"),
    (placed("experiment", "seed", value=1), "experiment has the unknown key seed"),
    (placed("steps", value=[]), r"steps of the file is \[\] instead of an object"),
    (placed(*ENTRY, value=None), "step training is null instead of an object"),
    (placed(*ENTRY, value=[]), r"step training is \[\] instead of an object"),
    *((removed(*ENTRY, key), f"step training has no {key}") for key in ("arguments", "seeds", "versions", "wall_seconds")),
    (placed(*ENTRY, "arguments", value="none"), 'arguments of step training is "none" instead of an object'),
    (placed(*ENTRY, "arguments", "methods", value=3), "methods of arguments of step training is 3 instead of an object"),
    (placed(*ENTRY, "seeds", value=3), "seeds of step training is 3 instead of a list"),
    (placed(*ENTRY, "versions", value="2.11"), 'versions of step training is "2.11" instead of an object'),
    (placed(*ENTRY, "versions", value={}), "versions of step training has no torch"),
    (placed(*ENTRY, "versions", "torch", value=2.11), "torch of versions of step training is 2.11 instead of a text"),
    (placed(*ENTRY, "wall_seconds", value="long"), 'wall_seconds of step training is "long" instead of a number'),
]


@pytest.mark.parametrize(("edit", "words"), EDITS)
def test_edit_is_named_in_one_sentence(written: Path, edit: Callable, words: str):
    edited(written, edit)
    before = written.read_bytes()
    for read in (read_manifest, experiment_of):
        with pytest.raises(UserError, match=f"manifest.json is damaged; delete it .*, or mend it: {words}"):
            read(EXPERIMENT.results)
    with pytest.raises(UserError, match=words), step(EXPERIMENT, "training", {}, {}):
        raise AssertionError("the step began")
    assert written.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null", b"3", b'"text"', b"[" * 100_000, b'{"steps": NaN}'])
def test_what_is_no_manifest_is_refused(written: Path, content: bytes):
    written.write_bytes(content)
    with pytest.raises(UserError, match="manifest.json is damaged"):
        read_manifest(EXPERIMENT.results)


def test_whole_numbers_are_seconds_too(written: Path):
    edited(written, placed(*ENTRY, "wall_seconds", value=3))
    assert experiment_of(EXPERIMENT.results) == EXPERIMENT


def test_script_ends_in_one_line(written: Path, root: Path):
    edited(written, placed("experiment", "num_per_class", value="2"))
    done = run_script("run_compute_pvalues.py", "--experiment", EXPERIMENT.name, root=root)
    assert_refused(done, "manifest.json is damaged", "instead of a whole number")


def test_refused_manifest_is_neither_damaged_nor_to_be_deleted(written: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        with pytest.raises(UserError) as caught:
            read_manifest(EXPERIMENT.results)
    assert "manifest.json: permission is denied" in str(caught.value)
    assert "delete" not in str(caught.value) and "damaged" not in str(caught.value)
    written.unlink()
    os.mkfifo(written)
    with pytest.raises(UserError, match="manifest.json: it is a pipe"):
        read_manifest(EXPERIMENT.results)
