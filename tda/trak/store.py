"""Rows of examples on disk, filled batch by batch by runs that may be killed at any moment and may share a folder.

Beside each row stands the identity of the example that it is a row of, and a mark. A row counts once it has been written and
its mark is the current one: where a batch brings another example than the row's, or the task is another, a new mark begins,
so that no row of before counts until its example has come by again. All files are .npy, but for origin.json.
"""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from tda.system.errors import UserError
from tda.system.files import locked, sha256, write_text
from tda.system.memory import release
from tda.trak.arrays import read_array, write_array
from tda.trak.identities import WORDS

_LOGGER = logging.getLogger("tda.trak")

_WORTH_A_WARNING = 1e-3
"""Share of entries lost to float16 from which on that is a warning."""


@dataclass
class ExampleRows:
    """A folder with what is known of each of n examples.

    gradients: (n, dimension), or None once deleted; out_to_loss: (n,), or None for targets; identities: (n, WORDS) uint64 as
    of identities.example_identities; marks: (n + 1,) int32, of each row, 0 while there is none, and last the current one.
    lost: (n,) int32, how many of a row's entries were too small for float16, None where that is not how they are kept.
    folder, noun: for messages; dimension, dtype: of gradients that are to be created; offset: of the first row among all, in
    messages.
    """

    folder: Path
    noun: str
    dimension: int
    dtype: np.dtype
    gradients: np.memmap | None
    out_to_loss: np.memmap | None
    identities: np.memmap
    marks: np.memmap
    lost: np.memmap | None = None
    offset: int = 0
    _own: np.ndarray = field(init=False)
    _seen_mark: int = field(init=False)

    def __post_init__(self) -> None:
        self._own = np.zeros(self.count, bool)
        self._seen_mark = int(self.marks[-1])
        self._said = set()

    @property
    def count(self) -> int:
        """Number of examples announced."""
        return len(self.marks) - 1

    @property
    def finished(self) -> np.ndarray:
        """Which of the announced examples have a row that counts (n,) bool."""
        return self.marks[:-1] == self.marks[-1]

    @property
    def origin(self) -> dict[str, str]:
        """What else the rows depend on: the identity of the task, and of what it drew; raises UserError for a damaged file."""
        path = self.folder / "origin.json"
        try:
            return json.loads(path.read_text()) if path.exists() else {}
        except ValueError as error:
            raise UserError(f"{path} is damaged; delete its folder and compute it again") from error

    def identity(self) -> str:
        """Hash of which examples the rows are of, in order, and of their origin."""
        return sha256(self.identities, json.dumps(self.origin, sort_keys=True).encode())

    def require_complete(self) -> None:
        """Raise UserError unless every announced example has a row that counts."""
        done = int(np.count_nonzero(self.finished))
        if done < self.count:
            raise UserError(
                f"{self.folder} holds {done} of the {self.count} {self.noun} announced; run the rest of them, "
                "or announce the right number"
            )

    def require_gradients(self) -> None:
        """Raise UserError if the gradients were deleted."""
        if self.gradients is None:
            raise UserError(f"the gradients in {self.folder} were deleted by del_grads; delete that folder and featurize again")

    def report_lost(self) -> None:
        """Say in the log which share of the entries, of all rows, float16 does not hold."""
        lost = 0 if self.lost is None else int(self.lost.sum(dtype=np.int64))
        if lost:
            share = lost / (self.count * self.dimension)
            sentence = "%.2g %% of the entries of the gradients in %s were too small for float16 and are kept as 0"
            mend = "; set use_half_precision=False" if share >= _WORTH_A_WARNING else ""
            _LOGGER.log(logging.WARNING if mend else logging.INFO, sentence + mend, 100 * share, self.folder)

    def begin(self, origin: dict[str, str]) -> None:
        """Say what the rows to be written depend on: where those that are there have another origin, none of them counts."""
        with locked(self.folder):
            if self.origin == origin:
                return
            # Nothing is written before an origin is; where there is none beside rows, it was deleted.
            if self.marks[:-1].any():
                self._say("the task is not the one that the rows in %s were computed with; they are computed again")
                self._forget()
            write_text(self.folder / "origin.json", json.dumps(origin, indent=1) + "\n")

    def lacks(self, positions: np.ndarray, identities: np.ndarray) -> bool:
        """Whether a batch has to be computed: unless there is a row of each of its examples at the example's position."""
        with locked(self.folder):
            self._keep_own_marks()
            is_same = (self.marks[positions] > 0) & (self.identities[positions] == identities).all(axis=1)
            if is_same.all():
                self._mark(positions)
                return False
            is_counted = self.marks[positions] == self.marks[-1]
            if (is_counted & ~is_same & ~self._own[positions]).any():
                self._say(
                    "the examples are not those whose rows %s holds (other data, or a loader that shuffles or augments); "
                    "they are computed again"
                )
                self._begin_anew()
            return True

    def write(self, positions: np.ndarray, identities: np.ndarray, gradients: Tensor, out_to_loss: Tensor | None) -> None:
        """Write rows, then that they are there; raises UserError, and writes nothing, where a number does not fit."""
        columns = {"gradients": gradients} | ({} if out_to_loss is None else {"out_to_loss": out_to_loss})
        dtypes = {"gradients": self.dtype, "out_to_loss": _of_numbers(self.dtype)}
        converted = {name: self._converted(values, positions, dtypes[name]) for name, values in columns.items()}
        if self.lost is not None:
            converted["lost"] = _number_lost(gradients.detach().cpu().numpy(), converted["gradients"])
        with locked(self.folder):
            self._restore_gradients()
            self._keep_own_marks()
            if self.marks[positions].any():
                # A row that is overwritten counts for nothing meanwhile.
                self.marks[positions] = 0
                self.marks.flush()
            for name, values in converted.items():
                target = getattr(self, name)
                target[positions] = values
                target.flush()
                release(target)
            self.identities[positions] = identities
            self.identities.flush()
            self._mark(positions)

    def _restore_gradients(self) -> None:
        """Begin with new gradients where they were deleted."""
        path = self.folder / "gradients.npy"
        if self.gradients is None:
            if not path.exists():
                self._forget()
                write_array(path, (self.count, self.dimension), self.dtype)
            self.gradients = read_array(path, "r+")

    def _converted(self, values: Tensor, positions: np.ndarray, dtype: np.dtype) -> np.ndarray:
        values = values.detach().cpu().numpy()
        with np.errstate(over="ignore", under="ignore"):
            converted = values.astype(dtype)
        broken = ~np.isfinite(converted.reshape(len(positions), -1)).all(axis=1)
        if broken.any():
            raise UserError(
                f"the gradient or output of example {self.offset + positions[broken.argmax()]} of the {self.noun} is NaN, "
                f"infinite or too large for {dtype}; check the checkpoint and that example, or set use_half_precision=False"
            )
        if dtype == np.float16 and values.ndim > 1 and (values.any(axis=1) & ~converted.any(axis=1)).any():
            self._say("gradients in %s are too small for float16 and are kept as 0; set use_half_precision=False")
        return converted

    def _mark(self, positions: np.ndarray) -> None:
        self.marks[positions] = self.marks[-1]
        self.marks.flush()
        self._own[positions] = True

    def _begin_anew(self) -> None:
        self.marks[-1] += 1
        self.marks.flush()
        self._keep_own_marks()

    def _keep_own_marks(self) -> None:
        """Where a new mark has begun, the rows that this run has brought still count."""
        if self._seen_mark != self.marks[-1]:
            self.marks[:-1][self._own & (self.marks[:-1] > 0)] = self.marks[-1]
            self._seen_mark = int(self.marks[-1])

    def _forget(self) -> None:
        """No row counts, nor will when its example comes by."""
        self._own[:] = False
        self._begin_anew()
        self.identities[:] = 0
        self.identities.flush()

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            _LOGGER.warning(sentence, self.folder)


def _of_numbers(dtype: np.dtype) -> np.dtype:
    """The precision of what is one number an example: float16 would save nothing."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _number_lost(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """How many entries of each row are 0 only because they were too small (n,) int32.

    What is below the rounding of its row was no number before either: a sketch leaves such entries where there is nothing.
    """
    rounding = np.finfo(values.dtype).eps * np.linalg.norm(values, axis=1, keepdims=True)
    return ((np.abs(values) > rounding) & (kept == 0)).sum(axis=1, dtype=np.int32)


def open_rows(
    folder: Path, noun: str, count: int | None, dimension: int, dtype: np.dtype, with_out_to_loss: bool, offset: int = 0
) -> ExampleRows:
    """Open the rows in a folder, or create them; count: None for as many as there are; offset: see ExampleRows.

    Raises UserError if the folder holds another number of examples, or nothing where it must.
    """
    marks = folder / "marks.npy"
    if count is not None:
        with locked(folder):
            if not marks.exists():
                _create(folder, count, dimension, dtype, with_out_to_loss)
    if not marks.exists():
        raise UserError(f"{folder} holds no {noun}; run them first")
    names = ["gradients", "identities", "marks"] + ["out_to_loss"] * with_out_to_loss
    names += ["lost"] * (dtype == np.float16)
    # Gradients may have been deleted, and what is lost was not always counted.
    kept = [name for name in names if name not in ("gradients", "lost") or (folder / f"{name}.npy").exists()]
    arrays = {name: read_array(folder / f"{name}.npy", "r+") for name in kept}
    parts = map(arrays.get, ("gradients", "out_to_loss", "identities", "marks", "lost"))
    rows = ExampleRows(folder, noun, dimension, dtype, *parts, offset=offset)
    lengths = {len(array) for name, array in arrays.items() if name != "marks"} | {rows.count}
    if lengths != {count or rows.count}:
        raise UserError(
            f"{folder} was begun with {rows.count} {noun}, not {count}; announce as many again, or choose another "
            "save_dir or exp_name"
        )
    return rows


def _create(folder: Path, count: int, dimension: int, dtype: np.dtype, with_out_to_loss: bool) -> None:
    write_array(folder / "gradients.npy", (count, dimension), dtype)
    if with_out_to_loss:
        write_array(folder / "out_to_loss.npy", (count,), _of_numbers(dtype))
    if dtype == np.float16:
        write_array(folder / "lost.npy", (count,), np.dtype(np.int32))
    write_array(folder / "identities.npy", (count, WORDS), np.dtype(np.uint64))
    # The marks come last: where they are, whatever else is missing was deleted.
    write_marks(folder, count)


def write_marks(folder: Path, count: int, finished: bool = False) -> None:
    """Create the marks of rows that are all there, or none of them."""
    marks = np.full(count + 1, finished, np.int32)
    marks[-1] = 1
    write_array(folder / "marks.npy", (count + 1,), np.dtype(np.int32), [(slice(None), marks)])
