"""What a tensor file says of itself, read from its head alone, without torch and whatever its size."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tda.system.errors import UserError
from tda.system.files import reading

ENTRY = "tda"
"""The one entry of a file's metadata, a JSON object."""

_LONGEST_HEAD = 2**27
_LENGTH_SIZE = 8
"""Bytes of a file's first number, the length of its head."""


class DamagedFileError(UserError):
    """The file is not whole, not one of this project's, or its tensors are not those that were written."""


def read_info(path: Path) -> dict:
    """What a file says of itself and the "sha256" that its tensors should have, they themselves unread.

    Raises DamagedFileError if its head is not whole or its length another, and UserError if it is missing or may not be read.
    """
    with explained(path), open(path, "rb") as file:
        length = int.from_bytes(file.read(_LENGTH_SIZE), "little")
        if length > _LONGEST_HEAD:
            raise ValueError
        head = json.loads(file.read(length))
        info = json.loads(head["__metadata__"][ENTRY])
        _ = info["sha256"]
        ends = [tensor["data_offsets"][1] for name, tensor in head.items() if name != "__metadata__"]
        if path.stat().st_size != _LENGTH_SIZE + length + max(ends, default=0):
            raise ValueError
    return info


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what reading a tensor file raises into sentences; whatever a library raises besides must be a ValueError."""
    try:
        with reading(path):
            yield
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path} is not a whole tensor file of this project") from error
