"""Matrices as CSV text with numbers as "%.6g" writes them, byte for byte, several times as fast.

The tables of p-values are some thirty million numbers from 0 to 1 for a dozen methods. A number is scaled to an integer of six
digits; which one, is certain unless it lies next to the middle between two. Such numbers, and all out of range, go through
"%.6g" itself. A text is put together from two words of eight bytes, in which what is not needed is 0, and those bytes are
dropped from all texts at once.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

DIGITS = "%.6g"
_LEAST, _MOST = 1e-290, 1.0
"""What is scaled: scales of less would be infinite, and in the text of more a point would stand among the digits."""
_SMALLEST, _LARGEST = 100_000, 1_000_000
"""The first integer of six digits, and the first of seven."""
_TOO_NEAR = 0.5 - 1e-8
"""A distance from the nearest integer. Scale and product are rounded, which moves a scaled number by less than 3e-10."""
_MOST_ZEROS = 4
"""How many zeros stand before the first digit at most; where there would be more, an exponent is written."""
_BLOCK = 2**15
"""Numbers at a time, which stay in a core's cache."""
_SLOT = 16
_WORD = np.dtype("<u8")


class _Tables(NamedTuple):
    """What texts are made of.

    By a number's binary exponent, from the least on: zeros, how many zeros stand before the first digit of that power of two,
    the one before the point included; next_power, the power of ten above it. By zeros: scale, what brings a number to six
    digits; before, what stands before plain digits; behind, what stands behind scientific ones. By integer, from the smallest
    on: plain and scientific, its digits without zeros at the end, the latter with a point behind the first.
    """

    zeros: np.ndarray
    next_power: np.ndarray
    scale: np.ndarray
    before: np.ndarray
    behind: np.ndarray
    plain: np.ndarray
    scientific: np.ndarray


def csv_text(values: np.ndarray, row_names: Sequence[int], column_names: Sequence[int], corner: str) -> bytes:
    """CSV text of values (rows, columns) float64: `corner` and the column names, then a line a row, its name first.

    Row names are of at most 15 digits. pandas.read_csv(file, index_col=corner) reads it.
    """
    slots = np.zeros((len(values), values.shape[1] + 1, _SLOT), np.uint8)
    slots[:, 0] = _words_of(map(str, row_names)).view(np.uint8)
    slots[:, 1:] = _slots(np.ascontiguousarray(values, np.float64).reshape(-1)).reshape(*values.shape, _SLOT)
    slots[:, :-1, -1], slots[:, -1, -1] = ord(","), ord("\n")
    head = ",".join([corner, *map(str, column_names)]) + "\n"
    return head.encode() + slots.tobytes().translate(None, b"\0")


def _slots(numbers: np.ndarray) -> np.ndarray:
    """Texts (n, 16) of bytes, 0 where there is none; the last byte is free."""
    words = np.empty((len(numbers), 2), _WORD)
    for start in range(0, len(numbers), _BLOCK):
        _write_words(numbers[start : start + _BLOCK], words[start : start + _BLOCK])
    return words.view(np.uint8)


def _write_words(numbers: np.ndarray, words: np.ndarray) -> None:
    tables = _tables()
    known = (numbers >= _LEAST) & (numbers <= _MOST)
    scalable = np.where(known, numbers, _MOST)
    binary = (scalable.view(np.int64) >> 52) - (np.float64(_LEAST).view(np.int64) >> 52)
    zeros = tables.zeros[binary] - (scalable >= tables.next_power[binary])
    scaled = scalable * tables.scale[zeros]
    nearest = np.rint(scaled)
    known &= np.abs(scaled - nearest) < _TOO_NEAR
    integer = nearest.astype(np.int64) - _SMALLEST
    zeros -= nearest == _LARGEST
    words[:, 0], words[:, 1] = tables.before[zeros], tables.plain[integer]
    (small,) = np.nonzero(zeros > _MOST_ZEROS)
    words[small, 0], words[small, 1] = tables.scientific[integer[small]], tables.behind[zeros[small]]
    if not known.all():
        (nothing,) = np.nonzero((numbers == 0) & ~np.signbit(numbers))
        words[nothing] = _words_of(["0"])
        known[nothing] = True
        (others,) = np.nonzero(~known)
        words[others] = _words_of(DIGITS % number for number in numbers[others].tolist())


def _words_of(texts: Sequence[str], size: int = _SLOT) -> np.ndarray:
    """Texts of at most `size` bytes as words (n, size / 8), 0 where they end."""
    padded = b"".join(text.encode().ljust(size, b"\0") for text in texts)
    return np.frombuffer(padded, _WORD).reshape(-1, size // _WORD.itemsize)


@cache
def _tables() -> _Tables:
    least, most = np.frexp((_LEAST, _MOST))[1] - 1
    powers = [2.0**exponent for exponent in range(least, most + 1)]
    zeros = np.array([-int(f"{power:.17e}".partition("e")[2]) for power in powers])
    counts = range(zeros.max() + 1)
    before = ["", *("0." + "0" * count for count in range(_MOST_ZEROS))]
    return _Tables(
        zeros,
        np.array([float(f"1e{1 - count}") for count in zeros]),
        np.array([float(f"1e{5 + count}") for count in counts]),
        _words_of([*before, *[""] * (len(counts) - len(before))], 8)[:, 0],
        _words_of([f"e-{count:02}" for count in counts], 8)[:, 0],
        *_digits_of_integers(),
    )


def _digits_of_integers() -> tuple[np.ndarray, np.ndarray]:
    """Words of the integers from the smallest to the largest, whose text is that of the smallest."""
    integers = np.arange(_SMALLEST, _LARGEST + 1, dtype=np.int32)
    integers[-1] = _SMALLEST
    digits = integers[:, None] // 10 ** np.arange(5, -1, -1, dtype=np.int32) % 10
    meant = np.logical_or.accumulate(digits[:, ::-1] != 0, axis=1)[:, ::-1]
    letters = np.where(meant, digits + ord("0"), 0).astype(np.uint8)
    plain, scientific = np.zeros((2, len(integers), 8), np.uint8)
    plain[:, :6] = letters
    scientific[:, 0], scientific[:, 1], scientific[:, 2:7] = letters[:, 0], np.where(meant[:, 1], ord("."), 0), letters[:, 1:]
    return plain.view(_WORD)[:, 0], scientific.view(_WORD)[:, 0]
