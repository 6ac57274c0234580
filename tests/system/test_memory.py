"""The process's peak memory."""

from tda.system.memory import peak_memory_bytes


def test_peak_is_in_bytes():
    assert 50 * 2**20 < peak_memory_bytes() < 2**40
