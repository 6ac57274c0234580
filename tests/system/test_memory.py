"""The process's peak memory, and what it gives back of what it freed."""

import ctypes
import subprocess
import sys

import pytest

from tda.system.memory import peak_memory_bytes

# Every other block of 1 MiB is freed: holes below blocks in use, which glibc keeps.
HOLES = """
import sys
import torch
from tda.system import memory
from tda.system.devices import prepare_process

prepare_process()
freed = memory.FreedMemory(growth=int(sys.argv[1]))
blocks = [torch.ones(2**18) for _ in range(400)]
del blocks[::2]
full = memory._resident_bytes()
freed.give_back()
left = memory._resident_bytes()
assert all(block.sum() == 2**18 for block in blocks)
print((full - left) // 2**20)
"""


def test_peak_is_in_bytes() -> None:
    assert 50 * 2**20 < peak_memory_bytes() < 2**40


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="holes are an affair of glibc"
)
@pytest.mark.parametrize(("growth", "least", "most"), [(2**28, 150, 210), (2**30, 0, 10)])
def test_freed_memory_goes_back_once_the_process_has_grown(growth: int, least: int, most: int) -> None:
    command = [sys.executable, "-c", HOLES, str(growth)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert least <= int(printed) <= most
