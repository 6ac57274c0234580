"""Score files: one parquet file per (method, seed, epoch), readable with nothing but pandas.

Columns are `train_idx` and `z_test_<index>` for every test example; a row is a training example. The sign is the
project's: positive = helpful, without this training example the test loss would be higher. The file's metadata
(key "tda", JSON) holds the method, its settings, the member, the data hash and solver residuals.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tda.experiments.folders import ResultsFolder
from tda.scores.sign import SIGN
from tda.system.errors import UserError
from tda.system.files import reading, sha256, write_atomically

_TEST_COLUMN = "z_test_"
_FORMAT = {"use_dictionary": False, "write_statistics": False, "compression": "zstd", "write_page_checksum": True}


@dataclass(frozen=True)
class Scores:
    """All scores of one method in one experiment.

    values: (seeds, epochs, n_train, n_test) float32; epochs ascend; metadata is that of the first file; reports: what every
    file's solver reported, by (seed, epoch); checkpoints: the hash of the checkpoint that each file is of, likewise.
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

    def of_seeds(self, positions: Sequence[int]) -> "Scores":
        """The scores of a part of the seeds, by their positions in seed_ids."""
        positions = list(positions)
        return replace(self, seed_ids=[self.seed_ids[position] for position in positions], values=self.values[positions])


def save_scores(path: Path, values: np.ndarray, train_indices: np.ndarray, test_indices: np.ndarray, metadata: dict) -> None:
    """Write one member's scores (n_train, n_test) float32 atomically; their sign is SIGN unless the metadata says otherwise.

    Raises UserError, and writes nothing, if a value is not finite.
    """
    values = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise UserError(
            f"the score of method {metadata['method']}, seed {metadata['seed_id']}, epoch {metadata['epoch']} for training "
            f"example {train_indices[row]} and test example {test_indices[column]} is not a finite number; nothing was written"
        )
    by_test = np.ascontiguousarray(values.T)
    columns = {"train_idx": pa.array(np.asarray(train_indices, dtype=np.int64))}
    columns |= {f"{_TEST_COLUMN}{index}": pa.array(column) for index, column in zip(test_indices, by_test, strict=True)}
    described = {"sign": SIGN, **metadata, "sha256": sha256(values.tobytes())}
    table = pa.table(columns).replace_schema_metadata({"tda": json.dumps(described, sort_keys=True)})
    write_atomically(path, partial(pq.write_table, table, **_FORMAT))


def load_score_file(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    """Read one file: values (n_train, n_test), train indices, test indices, metadata.

    Raises UserError if the file is damaged or was not written by this project.
    """
    try:
        with reading(path):
            # The values have a checksum of their own in the metadata; the pages' is that of the training indices too.
            table = pq.read_table(path, use_threads=False, page_checksum_verification=True)
        metadata = json.loads(table.schema.metadata[b"tda"])
        names = table.column_names[1:]
        values = np.stack([table.column(i + 1).to_numpy() for i in range(len(names))], axis=1)
        train_indices = table.column(0).to_numpy()
        test_indices = np.array([int(name.removeprefix(_TEST_COLUMN)) for name in names])
        intact = sha256(np.ascontiguousarray(values).tobytes()) == metadata["sha256"]
        _ = [metadata[key] for key in ("method", "seed_id", "epoch", "experiment", "data", "settings")]
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a whole score file of this project; delete it and run its step again") from error
    if not intact:
        raise UserError(f"{path} is damaged: its values do not match its checksum; delete it and run its step again")
    return values, train_indices, test_indices, metadata


def methods_on_disk(folder: ResultsFolder) -> list[str]:
    """Names of the methods with at least one score file, sorted.

    Raises UserError if the experiment has no scores.
    """
    found = sorted(
        {path.parent.parent.name for path in folder.score_folder("*").parent.glob("*/*/attribution_epoch_*.parquet")}
    )
    if not found:
        raise UserError(f"there are no scores below {folder.path / 'tda_scores'}; run a scoring script (step 3) first")
    return found


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
        info = json.loads(pq.read_metadata(path).metadata[b"tda"])
        _ = info["sha256"]
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a whole score file of this project; delete it and run its step again") from error
    return info


def load_scores(folder: ResultsFolder, method: str, seed_ids: Sequence[int] | None = None) -> Scores:
    """Read all scores of a method, or those of some seeds.

    Raises UserError if there are none, if a seed lacks an epoch that another has, or if files disagree about examples, data or
    settings.
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
    loaded = {key: load_score_file(path) for key, path in files.items()}
    first = loaded[seed_ids[0], epochs[0]]
    for (seed_id, epoch), (_, train, test, metadata) in loaded.items():
        path = files[seed_id, epoch]
        if (metadata["method"], metadata["seed_id"], metadata["epoch"]) != (method, seed_id, epoch):
            raise UserError(f"{path} holds the scores of another member; delete it and run its step again")
        same = np.array_equal(train, first[1]) and np.array_equal(test, first[2])
        if not same or any(metadata[key] != first[3][key] for key in ("experiment", "data", "settings")):
            raise UserError(
                f"{path} was computed from other data or settings than its neighbours; delete it and run its step again"
            )
    values = np.stack([np.stack([loaded[seed_id, epoch][0] for epoch in epochs]) for seed_id in seed_ids])
    reports = {key: metadata.get("report", {}) for key, (*_, metadata) in loaded.items()}
    checkpoints = {key: metadata.get("checkpoint") for key, (*_, metadata) in loaded.items()}
    return Scores(method, seed_ids, epochs, first[1], first[2], values, first[3], reports, checkpoints)


def check_data(scores: Scores, hashes: dict[str, str]) -> None:
    """Raise UserError unless a method's scores are of the splits with these fingerprints ("train" and "test")."""
    for split, fingerprint in hashes.items():
        if scores.metadata["data"][split] != fingerprint:
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
