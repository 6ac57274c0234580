"""How much memory this process has used, and how it lets go of what it freed or read of a file."""

import ctypes
import math
import mmap
import resource
import sys
from pathlib import Path

import numpy as np


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far, in bytes."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return largest if sys.platform == "darwin" else largest * 1024


class FreedMemory:
    """Returns freed memory to the system where a long computation has let the process grow.

    glibc keeps freed blocks (prepare_process), and where passes are of ever other shapes, as texts are, the next ones do not
    fit them: hundreds of training steps leave gigabytes of holes.
    """

    def __init__(self, growth: int = 2**30) -> None:
        """growth: bytes of resident memory that the process may gain before what it freed is looked for."""
        self._growth, self._resident = growth, _resident_bytes()

    def give_back(self) -> None:
        """Return what is free, if the process has grown by so much since the last time; what was in use is no hole."""
        if _resident_bytes() - self._resident < self._growth:
            return
        c_library = ctypes.CDLL(None)
        if hasattr(c_library, "malloc_trim"):
            c_library.malloc_trim(0)
        self._resident = _resident_bytes()


def _resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE


def gibibytes(number: int) -> str:
    """Bytes in GiB for a message that asks for so much, two digits, rounded up."""
    exponent = math.floor(math.log10(number / 2**30)) - 1
    return f"{math.ceil(number / 2**30 / 10**exponent) * 10**exponent:.3g}"


def release(array: np.ndarray) -> None:
    """Let go of the pages of a shared memory map, or of a view of one, that were read or written; of another array nothing.

    They stay in the system's cache, and what was written will reach the disk; but they count as this process's memory no
    longer, which would otherwise grow to the size of the file.
    """
    owner = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)
