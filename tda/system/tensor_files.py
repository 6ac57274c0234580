"""Files of named tensors that know their own content: safetensors with one JSON entry, in which a checksum stands.

Every tensor file of the project is one of these: checkpoints, retrainings, unfinished leave-one-out, kept s_test. Nothing is
unpickled. The same tensors and the same information give the same bytes.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from tda.system.files import write_atomically, write_bytes
from tda.system.tensor_heads import ENTRY, DamagedFileError, explained

_PIECE = 2**24
"""Bytes of a file that are checked at once."""


def write_tensors(path: Path, tensors: dict[str, Tensor], info: dict) -> None:
    """Write CPU tensors and `info` (plain values) atomically.

    Raises UserError where the file cannot be written; whether the numbers are finite is the caller's to check.
    """
    described = json.dumps({**info, "sha256": _content_hash(tensors)}, sort_keys=True)
    # One metadata entry only: safetensors writes several in an order that changes from run to run.
    write_bytes(path, safetensors.torch.save(tensors, {ENTRY: described}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The file's tensors, and its information with the "sha256" of their content.

    Raises DamagedFileError unless they are what was written, and UserError as read_info does.
    """
    with _opened(path) as file:
        info = json.loads(file.metadata()[ENTRY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        intact = _content_hash(tensors) == info["sha256"]
    if not intact:
        raise DamagedFileError(f"{path} is damaged: its tensors do not match its checksum")
    return tensors, info


def write_stream(path: Path, name: str, shape: tuple[int, ...], blocks: Iterable[Tensor], info: dict) -> None:
    """Write one tensor in float32, atomically, from blocks of its rows, so that it never has to fit into memory.

    safetensors wants the whole tensor at once, hence the format by hand. The checksum stands in the header, which is written
    twice: its length is known before its value. Raises UserError where the file cannot be written.
    """

    def write(temporary: Path) -> None:
        digest = hashlib.sha256(_identity(name, torch.float32, shape))
        with open(temporary, "r+b") as file:
            file.write(_header(name, shape, info, "0" * 2 * digest.digest_size))
            for block in blocks:
                content = block.to("cpu", torch.float32).contiguous().numpy().tobytes()
                digest.update(content)
                file.write(content)
            file.seek(0)
            file.write(_header(name, shape, info, digest.hexdigest()))

    write_atomically(path, write)


def read_stream(path: Path, name: str, rows_at_once: int) -> Iterator[Tensor]:
    """Blocks of rows of one tensor, after a check of the whole file; raises DamagedFileError as read_tensors does."""
    checked_info(path, name)
    with _opened(path) as file:
        kept = file.get_slice(name)
        for start in range(0, kept.get_shape()[0], rows_at_once):
            yield kept[start : start + rows_at_once]


def checked_info(path: Path, name: str) -> dict:
    """Information of a file that write_stream wrote, after a check of its whole content, piece by piece.

    Raises DamagedFileError as read_tensors does.
    """
    with _opened(path) as file:
        info = json.loads(file.metadata()[ENTRY])
        shape = tuple(file.get_slice(name).get_shape())
        intact = _hash_of_stream(path, name, shape) == info["sha256"]
    if not intact:
        raise DamagedFileError(f"{path} is damaged: its tensors do not match its checksum")
    return info


@contextmanager
def _opened(path: Path) -> Iterator[safetensors.safe_open]:
    with explained(path):
        # The library's own errors do not tell a missing file from a damaged one.
        open(path, "rb").close()
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                yield file
        except safetensors.SafetensorError as error:
            raise ValueError from error


def _content_hash(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(_identity(name, tensor.dtype, tuple(tensor.shape)))
        # By bytes, since numpy has no bfloat16.
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _identity(name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> bytes:
    return f"{name} {dtype} {shape}".encode()


def _hash_of_stream(path: Path, name: str, shape: tuple[int, ...]) -> str:
    digest = hashlib.sha256(_identity(name, torch.float32, shape))
    with open(path, "rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        while content := file.read(_PIECE):
            digest.update(content)
    return digest.hexdigest()


def _header(name: str, shape: tuple[int, ...], info: dict, checksum: str) -> bytes:
    size = torch.Size(shape).numel() * torch.float32.itemsize
    described = json.dumps({**info, "sha256": checksum}, sort_keys=True)
    tensor = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {ENTRY: described}, name: tensor}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header
