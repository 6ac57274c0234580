"""Arrays on disk as memory maps, in the .npy format."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from tda.system.errors import UserError
from tda.system.files import reading, write_atomically
from tda.system.memory import release

Place = slice | tuple[slice, slice]
"""Which rows a block is, or which rows and columns."""


def write_array(path: Path, shape: tuple[int, ...], dtype: np.dtype, blocks: Iterable[tuple[Place, np.ndarray]] = ()) -> None:
    """Write a .npy file atomically through a memory map, zero but for the given blocks."""

    def write(temporary: Path) -> None:
        array = open_memmap(temporary, "w+", dtype=dtype, shape=shape)
        _reserve(temporary)
        for rows, values in blocks:
            array[rows] = values
            release(array)
        array.flush()

    write_atomically(path, write)


def read_array(path: Path, mode: str = "r") -> np.memmap:
    """Memory map of a .npy file; raises UserError if it is missing, may not be read or is no whole array."""
    try:
        with reading(path):
            # Opened for writing, a file that was cut off would be filled up with zeros.
            array = np.load(path, mmap_mode="r")
        return array if mode == "r" else np.load(path, mmap_mode=mode)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; delete its folder and compute it again") from error
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read as an array; delete its folder and compute it again") from error


def _reserve(path: Path) -> None:
    """Take the disk space of a file now: where it runs out later, writing through a memory map ends the process."""
    size = path.stat().st_size
    if not size or not hasattr(os, "posix_fallocate"):
        return
    with open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            # Some file systems cannot.
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
