"""Score files: one parquet file per (method, seed, epoch), readable with nothing but pandas.

Columns are `train_idx` and `z_test_<index>` for every test example; a row is a training example. The sign is the
project's: positive = helpful, without this training example the test loss would be higher. The file's metadata
(key "tda", JSON) holds the method, its settings, the member, the data hash, solver residuals, and a checksum of values and
indices.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import product
from pathlib import Path

import numpy as np
from pyarrow import ArrowException

from tda.experiments.folders import ResultsFolder
from tda.scores.parquet_columns import Matrix, read_info, read_matrix, write_matrix
from tda.scores.sign import SIGN
from tda.system.errors import UserError
from tda.system.files import sha256
from tda.system.memory import release
from tda.system.threads import in_threads

_INDEX_COLUMN, _TEST_COLUMN = "train_idx", "z_test_"
_KINDS = {"method": str, "sign": str, "experiment": str, "data": dict, "settings": dict, "sha256": str}
"""What a file must say of itself besides its member, which is a seed and an epoch, or lists of them."""
_NOT_WHOLE = (OSError, ArrowException, KeyError, TypeError, ValueError)
"""What reading raises where a file is not one of these."""
_BLOCK_ENTRIES = 2**24
"""Scores that are checked at once."""
_CHECKED: set[tuple[Path, int, int, str]] = set()
"""Files that were found whole, as they were then: columns of them may be read without looking at all others again."""


@dataclass(frozen=True)
class Scores:
    """All scores of one method in one experiment.

    values: (seeds, epochs, n_train, n_test) float32; epochs ascend; metadata is that of the first file. By (seed, epoch):
    reports, what a file's solver reported; checkpoints, the hash of the one that it is of; checksums, that of its content.
    """

    method: str
    seed_ids: list[int]
    epochs: list[int]
    train_indices: np.ndarray
    test_indices: np.ndarray
    values: np.ndarray
    metadata: dict
    reports: dict[tuple[int, int], dict] = field(default_factory=dict)
    checkpoints: dict[tuple[int, int], str | None] = field(default_factory=dict)
    checksums: dict[tuple[int, int], str] = field(default_factory=dict)

    def of_seeds(self, positions: Sequence[int]) -> "Scores":
        """The scores of a part of the seeds, by their positions in seed_ids."""
        positions = list(positions)
        return replace(self, seed_ids=[self.seed_ids[position] for position in positions], values=self.values[positions])


def save_scores(path: Path, values: np.ndarray, train_indices: np.ndarray, test_indices: np.ndarray, metadata: dict) -> None:
    """Write one member's scores (n_train, n_test) float32 atomically; their sign is SIGN unless the metadata says otherwise.

    Raises UserError, and writes nothing, if a value is not finite, an example is named twice, or the sign is not told.
    """
    values = np.ascontiguousarray(values, dtype=np.float32)
    described = {"sign": SIGN, **metadata}
    _require_sound(values, train_indices, test_indices, described, "nothing was written")
    described["sha256"] = _checksum(values, train_indices, test_indices)
    names = [f"{_TEST_COLUMN}{index}" for index in test_indices]
    write_matrix(path, _INDEX_COLUMN, Matrix(values, train_indices, names, described))


def load_score_file(path: Path, columns: slice | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    """Read one file: values (n_train, n_test), train indices, test indices, metadata.

    columns: those of some test examples alone; the others are looked at once, to check the file, and never held.

    Raises UserError if the file may not be read, is damaged, was not written by this project, or holds what it never writes.
    """
    mend = "delete it and run its step again"
    try:
        matrix = read_matrix(path, mapped=columns is not None)
        test_indices = _test_indices(tuple(matrix.names))
        whole = all(isinstance(matrix.info[key], kind) for key, kind in _KINDS.items())
        _ = matrix.info["seed_id"], matrix.info["epoch"]
    except _NOT_WHOLE as error:
        raise UserError(f"{path} is not a whole score file of this project; {mend}") from error
    if not whole:
        raise UserError(f"{path} is not a whole score file of this project; {mend}")
    state = path.stat()
    known = (path, state.st_mtime_ns, state.st_size, matrix.info["sha256"])
    if columns is None or known not in _CHECKED:
        if _checksum(matrix.values, matrix.row_indices, test_indices) != matrix.info["sha256"]:
            raise UserError(f"{path} is damaged: its values do not match its checksum; {mend}")
        _require_sound(matrix.values, matrix.row_indices, test_indices, matrix.info, f"{path} cannot be used; {mend}")
        _CHECKED.add(known)
    if columns is None:
        return matrix.values, matrix.row_indices, test_indices, matrix.info
    return np.array(matrix.values[:, columns]), matrix.row_indices, test_indices[columns], matrix.info


@lru_cache
def _test_indices(names: tuple[str, ...]) -> np.ndarray:
    indices = np.array([int(name.removeprefix(_TEST_COLUMN)) for name in names])
    indices.flags.writeable = False
    return indices


def _checksum(values: np.ndarray, train_indices: np.ndarray, test_indices: np.ndarray) -> str:
    indices = (np.ascontiguousarray(part, dtype="<i8").data for part in (train_indices, test_indices))
    return sha256(*indices, *(np.ascontiguousarray(block, dtype="<f4").data for block in _blocks_of_rows(values)))


def _blocks_of_rows(values: np.ndarray) -> Iterator[np.ndarray]:
    """All rows, so many at a time that little of a mapped file is copied."""
    step = max(1, _BLOCK_ENTRIES // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        yield values[start : start + step]
        release(values)


def _require_sound(values: np.ndarray, train_indices: np.ndarray, test_indices: np.ndarray, info: dict, end: str) -> None:
    """Raise UserError, which names the member and ends with `end`, unless scores are what may be written."""
    member = f"method {info['method']}, seed {info['seed_id']}, epoch {info['epoch']}"
    if not all(np.isfinite(block).all() for block in _blocks_of_rows(values)):
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise UserError(
            f"the score of {member} for training example {train_indices[row]} and test example {test_indices[column]} is not "
            f"a finite number; {end}"
        )
    for kind, indices in (("training", train_indices), ("test", test_indices)):
        different, counts = np.unique(indices, return_counts=True)
        if len(different) < len(indices):
            raise UserError(f"the scores of {member} name {kind} example {different[counts > 1][0]} more than once; {end}")
    if not isinstance(info["sign"], str) or not info["sign"].strip():
        raise UserError(f"the scores of {member} do not tell what their sign means; {end}")


def methods_on_disk(folder: ResultsFolder) -> list[str]:
    """Names of the methods with at least one score file, sorted.

    Raises UserError if the experiment has no scores.
    """
    found = scored_methods(folder)
    if not found:
        raise UserError(f"there are no scores below {folder.path / 'tda_scores'}; run a scoring script (step 3) first")
    return found


def scored_methods(folder: ResultsFolder) -> list[str]:
    """The same, of which there may be none."""
    paths = folder.score_folder("*").parent.glob("*/*/attribution_epoch_*.parquet")
    return sorted({path.parent.parent.name for path in paths})


def _member_of(path: Path) -> tuple[int, int]:
    try:
        return int(path.parent.name), int(path.stem.removeprefix("attribution_epoch_"))
    except ValueError as error:
        raise UserError(
            f"{path} does not lie where a score file does, <method>/<seed_id>/attribution_epoch_<number>.parquet; move it away"
        ) from error


def score_paths(folder: ResultsFolder, method: str) -> dict[tuple[int, int], Path]:
    """A method's score files by (seed, epoch); raises UserError for one that lies where none does."""
    return {_member_of(path): path for path in folder.score_folder(method).glob("*/attribution_epoch_*.parquet")}


def read_score_info(path: Path) -> dict:
    """What a score file says of itself, its values unread; raises UserError if it is damaged or not one of this project's."""
    try:
        info = read_info(path)
        _ = info["sha256"]
    except _NOT_WHOLE as error:
        raise UserError(f"{path} is not a whole score file of this project; delete it and run its step again") from error
    return info


def load_scores(
    folder: ResultsFolder, method: str, seed_ids: Sequence[int] | None = None, columns: slice | None = None
) -> Scores:
    """Read all scores of a method, or those of some seeds, or some columns of them, the test examples.

    Raises UserError if there are none, if a seed lacks an epoch that another has, if files disagree about examples, data,
    settings or sign, and as load_score_file does.
    """
    files = {member: path for member, path in score_paths(folder, method).items() if seed_ids is None or member[0] in seed_ids}
    if not files:
        raise UserError(f"there are no scores in {folder.score_folder(method)}; run a scoring script (step 3) first")
    seed_ids = sorted({seed_id for seed_id, _ in files})
    epochs = sorted({epoch for _, epoch in files})
    for seed_id in seed_ids:
        for epoch in epochs:
            if (seed_id, epoch) not in files:
                raise UserError(f"{folder.score_file(method, seed_id, epoch)} is missing; run the script of {method} again")
    members = list(product(seed_ids, epochs))
    loaded = in_threads(partial(load_score_file, columns=columns), (files[member] for member in members))
    infos, values = {}, None
    for member, (found, train, test, info) in zip(members, loaded, strict=True):
        if values is None:
            first, values = (train, test, info), np.empty((len(seed_ids), len(epochs), *found.shape), np.float32)
        _require_neighbour(files[member], method, member, (train, test, info), first)
        values[seed_ids.index(member[0]), epochs.index(member[1])] = found
        infos[member] = info
    reports = {member: info.get("report", {}) for member, info in infos.items()}
    checkpoints = {member: info.get("checkpoint") for member, info in infos.items()}
    checksums = {member: info["sha256"] for member, info in infos.items()}
    return Scores(method, seed_ids, epochs, *first[:2], values, first[2], reports, checkpoints, checksums)


def _require_neighbour(path: Path, method: str, member: tuple[int, int], file: tuple, first: tuple) -> None:
    """Raise UserError unless a file (train indices, test indices, metadata) is the member's and agrees with the first."""
    info = file[-1]
    if (info["method"], info["seed_id"], info["epoch"]) != (method, *member):
        raise UserError(f"{path} holds the scores of another member; delete it and run its step again")
    same = all(np.array_equal(indices, others) for indices, others in zip(file[:2], first[:2], strict=True))
    if not same or any(info[key] != first[-1][key] for key in ("experiment", "data", "settings", "sign")):
        raise UserError(
            f"{path} was computed from other data or settings than its neighbours; delete it and run its step again"
        )


def check_data(scores: Scores, hashes: dict[str, str]) -> None:
    """Raise UserError unless a method's scores are of the splits with these fingerprints ("train" and "test")."""
    for split, fingerprint in hashes.items():
        if scores.metadata["data"].get(split) != fingerprint:
            raise UserError(
                f"the scores of method {scores.method} are of another {split} subset than the one in data/; "
                f"restore its index file, or train and score again"
            )


def check_comparable(first: Scores, second: Scores) -> None:
    """Raise UserError, naming both methods, unless they scored the same members on the same examples."""
    same = {
        "seeds": first.seed_ids == second.seed_ids,
        "epochs": first.epochs == second.epochs,
        "training examples": np.array_equal(first.train_indices, second.train_indices),
        "test examples": np.array_equal(first.test_indices, second.test_indices),
        "data": first.metadata["data"] == second.metadata["data"],
    }
    for what, agrees in same.items():
        if not agrees:
            raise UserError(
                f"methods {first.method} and {second.method} cannot be compared: they have scores of different {what}; "
                f"run the script of the one that is incomplete or out of date"
            )
