"""How much memory this process has used, and how it lets go of what it read of a file."""

import math
import mmap
import resource
import sys

import numpy as np


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far, in bytes."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return largest if sys.platform == "darwin" else largest * 1024


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
