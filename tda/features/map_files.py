"""Maps on disk: .npz files of named arrays, which numpy.load reads."""

from pathlib import Path

import numpy as np

from tda.system.files import write_atomically


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays atomically, compressed; the same arrays give the same bytes."""

    def write(temporary: Path) -> None:
        with open(temporary, "r+b") as file:
            np.savez_compressed(file, **arrays)

    write_atomically(path, write)
