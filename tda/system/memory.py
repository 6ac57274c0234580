"""How much memory this process has used."""

import resource
import sys


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far, in bytes."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return largest if sys.platform == "darwin" else largest * 1024
