"""Rows of a part of the training examples, featurized by a program of its own, and the merge of all parts.

A shard is a folder of rows (store.py) of the examples from start to before stop, which no other program writes to, so that many
machines may fill one shared folder, or folders of their own that are copied together. Once all its rows are there,
manifest.json says what they are: of which checkpoint, model, projection, parameters and task, of which rows, and of which
examples by the hash of their identities. The merge refuses whatever is missing, there twice, or of something else.
"""

import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tda.system.errors import UserError
from tda.system.files import locked, sha256, write_text
from tda.system.memory import release
from tda.trak.arrays import read_array, write_array
from tda.trak.store import ExampleRows, write_marks

_COPIED_ROWS = 2**13
"""Rows that a merge copies at once."""

_WHAT = {
    "checkpoint": "checkpoint",
    "settings": "settings",
    "parameters": "parameters (grad_wrt, requires_grad)",
    "origin": "task",
}
"""What a manifest holds that all shards must share, and what it is called."""


@dataclass(frozen=True)
class Shard:
    """A shard that is being filled: its rows, the first of them among all, and what its manifest is to say of them."""

    rows: ExampleRows
    start: int
    described: dict

    def begin(self) -> None:
        """Rows are about to be written: until all are there again, the shard is not finished."""
        _manifest(self.rows.folder).unlink(missing_ok=True)

    def finish_if_complete(self) -> None:
        """Write the manifest once every row counts, unless it is there."""
        path = _manifest(self.rows.folder)
        if not path.exists() and self.rows.finished.all():
            content = self.described | {
                "rows": [self.start, self.start + self.rows.count],
                "origin": self.rows.origin,
                "examples": sha256(self.rows.identities),
            }
            write_text(path, json.dumps(content, indent=1) + "\n")


@dataclass(frozen=True)
class Finished:
    """A shard that says that it is finished."""

    folder: Path
    content: dict

    @property
    def start(self) -> int:
        """Its first row."""
        return self.content["rows"][0]

    @property
    def stop(self) -> int:
        """The row after its last."""
        return self.content["rows"][1]


def merge(shards: list[Path], target: Path, count: int, expected: dict, delete: bool) -> None:
    """Join finished shards to the rows of all `count` training examples in the folder `target`, unless they are joined.

    expected: the settings and checkpoint that the shards must be of; delete: the shards, once joined; before, they and the
    joined rows take the disk's space twice. Raises UserError if a row is in no shard or in two, or a shard is unfinished,
    damaged, or of something else than expected or than the others.
    """
    with locked(target):
        if not shards and (target / "marks.npy").exists():
            return
        if not shards:
            raise UserError(f"{target} holds no shards; featurize them with load_checkpoint(..., shard=(start, stop)) first")
        finished = sorted((_finished(folder) for folder in shards), key=lambda shard: shard.start)
        for shard in finished:
            _require_same(shard, expected | {key: finished[0].content[key] for key in ("parameters", "origin")})
        _require_every_row_once(finished, count)
        if (target / "marks.npy").exists():
            _require_joined(finished, target)
        else:
            _join(finished, target, count)
        if delete:
            gone = target / ".shards deleted"
            shutil.rmtree(gone, ignore_errors=True)
            (target / "shards").rename(gone)
            shutil.rmtree(gone)


def _manifest(folder: Path) -> Path:
    return folder / "manifest.json"


def _finished(folder: Path) -> Finished:
    path, mend = _manifest(folder), "featurize that shard again"
    if not path.exists():
        marks = read_array(folder / "marks.npy")
        done = int(np.count_nonzero(marks[:-1] == marks[-1]))
        raise UserError(f"shard {folder} is not finished: {done} of its {len(marks) - 1} rows are there; run its program again")
    try:
        found = Finished(folder, json.loads(path.read_text()))
        _ = [found.content[key] for key in (*_WHAT, "examples")], found.start, found.stop
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} is damaged; delete its folder and {mend}") from error
    identities = read_array(folder / "identities.npy")
    if len(identities) != found.stop - found.start or sha256(identities) != found.content["examples"]:
        raise UserError(f"shard {folder} holds other rows than its manifest says; delete its folder and {mend}")
    return found


def _require_same(shard: Finished, expected: dict) -> None:
    for key, what in _WHAT.items():
        if shard.content[key] != expected[key]:
            raise UserError(
                f"shard {shard.folder} is of another {what} than the rest; delete its folder, or featurize it as the others"
            )


def _require_every_row_once(finished: list[Finished], count: int) -> None:
    reached, last = 0, None
    for shard in finished:
        if shard.start < reached:
            raise UserError(
                f"rows {shard.start} to {min(reached, shard.stop) - 1} are in two shards, {last.folder.name} and "
                f"{shard.folder.name}, in {shard.folder.parent}; delete one of them"
            )
        _require_no_gap(reached, shard.start, shard.folder.parent)
        reached, last = shard.stop, shard
    _require_no_gap(reached, count, finished[0].folder.parent)


def _require_no_gap(reached: int, start: int, folder: Path) -> None:
    if start > reached:
        raise UserError(f"rows {reached} to {start - 1} are in no shard in {folder}; featurize them")


def _require_joined(finished: list[Finished], target: Path) -> None:
    """Raise UserError unless the rows that are there are those of the shards."""
    identities = read_array(target / "identities.npy")
    same = all(sha256(identities[shard.start : shard.stop]) == shard.content["examples"] for shard in finished)
    if not same:
        raise UserError(
            f"{target} holds rows of other examples than its shards; delete {target / 'marks.npy'} to have them replaced"
        )


def _join(finished: list[Finished], target: Path, count: int) -> None:
    for name in ("gradients", "out_to_loss", "lost", "identities"):
        paths = [shard.folder / f"{name}.npy" for shard in finished]
        if name == "lost" and not all(path.exists() for path in paths):
            continue
        parts = [read_array(path) for path in paths]
        write_array(target / f"{name}.npy", (count, *parts[0].shape[1:]), parts[0].dtype, _blocks(finished, parts))
    write_text(target / "origin.json", json.dumps(finished[0].content["origin"], indent=1) + "\n")
    write_marks(target, count, finished=True)


def _blocks(finished: list[Finished], parts: list[np.ndarray]) -> Iterator[tuple[slice, np.ndarray]]:
    for shard, part in zip(finished, parts, strict=True):
        for start, stop in itertools.pairwise([*range(0, len(part), _COPIED_ROWS), len(part)]):
            yield slice(shard.start + start, shard.start + stop), part[start:stop]
            release(part)
