"""Rows of examples on disk, filled batch by batch by runs that may be killed at any moment.

A row counts as finished only once it has been written: its mark follows it to the disk. All files are .npy.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from torch import Tensor

from tda.system.errors import UserError
from tda.system.files import write_atomically


def write_array(path: Path, shape: tuple[int, ...], dtype: np.dtype, blocks: Iterable[tuple[slice, np.ndarray]] = ()) -> None:
    """Write a .npy file atomically through a memory map, zero but for the given blocks of rows."""

    def write(temporary: Path) -> None:
        array = open_memmap(temporary, "w+", dtype=dtype, shape=shape)
        for rows, values in blocks:
            array[rows] = values
        array.flush()

    write_atomically(path, write)


def read_array(path: Path, mode: str = "r") -> np.memmap:
    """Memory map of a .npy file; raises UserError if it cannot be read."""
    try:
        # Opened for writing, a file that was cut off would be filled up with zeros.
        array = np.load(path, mmap_mode="r")
        return array if mode == "r" else np.load(path, mmap_mode=mode)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read as an array; delete its folder and compute it again") from error


@dataclass(frozen=True)
class ExampleRows:
    """A folder with what is known of each of n examples.

    gradients: (n, dimension), or None once deleted; out_to_loss: (n,), or None for targets; finished: (n,) bool. folder, noun:
    for messages.
    """

    folder: Path
    noun: str
    gradients: np.memmap | None
    out_to_loss: np.memmap | None
    finished: np.memmap

    @property
    def count(self) -> int:
        """Number of examples announced."""
        return len(self.finished)

    def require_complete(self) -> None:
        """Raise UserError unless every announced example is there and its gradient is kept."""
        done = int(np.count_nonzero(self.finished))
        if done < self.count:
            raise UserError(
                f"{self.folder} holds {done} of the {self.count} {self.noun} announced; run the rest of them, "
                "or announce the right number"
            )
        if self.gradients is None:
            raise UserError(f"the gradients in {self.folder} were deleted by del_grads; delete that folder and featurize again")

    def are_finished(self, positions: np.ndarray) -> bool:
        """Whether all of these examples are there."""
        return bool(self.finished[positions].all())

    def write(self, positions: np.ndarray, gradients: Tensor, out_to_loss: Tensor | None) -> None:
        """Write rows, then that they are finished; raises UserError, and writes nothing, where a number does not fit."""
        columns = [(self.gradients, gradients)] + ([] if out_to_loss is None else [(self.out_to_loss, out_to_loss)])
        for target, values in columns:
            with np.errstate(over="ignore"):
                converted = values.detach().cpu().numpy().astype(target.dtype)
            broken = ~np.isfinite(converted.reshape(len(positions), -1)).all(axis=1)
            if broken.any():
                raise UserError(
                    f"the gradient or output of example {positions[broken.argmax()]} of the {self.noun} is NaN, infinite "
                    f"or too large for {target.dtype}; check the checkpoint and that example, or set use_half_precision=False"
                )
            target[positions] = converted
            target.flush()
        self.finished[positions] = True
        self.finished.flush()


def open_rows(
    folder: Path, noun: str, count: int | None, dimension: int, dtype: np.dtype, with_out_to_loss: bool
) -> ExampleRows:
    """Open the rows in a folder, or create them; count: None for as many as there are.

    Raises UserError if the folder holds another number of examples, or nothing where it must.
    """
    shapes = {"gradients": (count, dimension), "out_to_loss": (count,), "finished": (count,)}
    if not with_out_to_loss:
        del shapes["out_to_loss"]
    marks = folder / "finished.npy"
    if count is not None and not marks.exists():
        # The marks come last: where they are, whatever else is missing was deleted.
        for name, shape in shapes.items():
            write_array(folder / f"{name}.npy", shape, np.dtype(bool) if name == "finished" else dtype)
    found = {name: read_array(folder / f"{name}.npy", "r+") for name in shapes if (folder / f"{name}.npy").exists()}
    if "finished" not in found:
        raise UserError(f"{folder} holds no {noun}; run them first")
    lengths = {len(array) for array in found.values()}
    if lengths != {count or len(found["finished"])}:
        raise UserError(
            f"{folder} was begun with {len(found['finished'])} {noun}, not {count}; announce as many again, or choose another "
            "save_dir or exp_name"
        )
    return ExampleRows(folder, noun, found.get("gradients"), found.get("out_to_loss"), found["finished"])
