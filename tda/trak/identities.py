"""What a row is a row of: hashes of examples, and of the task, model and weights that it was computed with."""

import hashlib
import re
import types
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from tda.system.files import sha256
from tda.trak.batches import Batch, label_name, parts_of

WORDS = 3
"""Numbers (uint64) that identify an example: two of its whole content, one of its label."""

_OWN_ROOM = __name__.rpartition(".")[0]


def example_identities(batch: Batch) -> np.ndarray:
    """Hashes (n, WORDS) uint64 of a batch's examples: of all parts, and of the label (the last part) alone.

    They depend on each part's name or place, dtype, shape and bytes, on no memory format and no device.
    """
    names = list(batch) if isinstance(batch, dict) else [str(place) for place in range(len(batch))]
    label = (label_name(batch) if isinstance(batch, dict) else None) or names[-1]
    content = {name: _rows_of_bytes(part) for name, part in zip(names, parts_of(batch), strict=True)}
    parts = [content[name] for name in sorted(names)]
    described = [f"{name} {part.dtype} {tuple(part.shape[1:])}" for name, part in zip(names, parts_of(batch), strict=True)]
    start = hashlib.blake2b(";".join(sorted(described)).encode(), digest_size=16)
    found = np.empty((len(parts[0]), WORDS), np.uint64)
    for i, row in enumerate(found):
        whole = start.copy()
        for part in parts:
            whole.update(part[i])
        row[:2] = np.frombuffer(whole.digest(), np.uint64)
        row[2:] = np.frombuffer(hashlib.blake2b(content[label][i], digest_size=8).digest(), np.uint64)
    return found


def task_identity(task: object) -> str:
    """Hash of a task: its class's name, public attributes of object and class, and the code of the methods that a user wrote.

    What the methods call elsewhere is not seen, nor what a private attribute holds.
    """
    return _hashed(_described_object(task))


def model_identity(model: nn.Module) -> str:
    """Hash of a model's structure: modules with their settings, names, shapes and dtypes of its tensors; not their values."""
    state = model.state_dict().items()
    tensors = [f"{name} {tuple(kept.shape)} {kept.dtype}" if isinstance(kept, Tensor) else name for name, kept in state]
    return _hashed([_printed(model), *tensors])


def weights_identity(state: dict[str, Tensor]) -> str:
    """Hash of every value of a state dict; a module's extra state counts where it can be described."""
    described = (_bytes(value) if isinstance(value, Tensor) else _described(value).encode() for value in state.values())
    return sha256(*(part for pair in zip(map(str.encode, state), described, strict=True) for part in pair))


def tensors_identity(tensors: Iterable[Tensor]) -> str:
    """Hash of tensors' shapes, dtypes and values."""
    return _hashed(_described(tensor) for tensor in tensors)


def _hashed(parts: Iterable[str]) -> str:
    return sha256(*(f"{part}\n".encode() for part in parts))


def _rows_of_bytes(part: Tensor) -> np.ndarray:
    flat = part.detach().cpu().contiguous().reshape(len(part), -1)
    return (flat if flat.shape[1] else flat.new_zeros(len(part), 1)).view(torch.uint8).numpy()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _printed(value: object) -> str:
    # A function shows where it lies in memory.
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _described_object(value: object) -> list[str]:
    # The same class has another module where its file is run as a program.
    described = [type(value).__qualname__]
    for owner in reversed(type(value).__mro__):
        if owner is not object and not owner.__module__.startswith(_OWN_ROOM):
            described += [f"{owner.__qualname__}.{name} {_described(member)}" for name, member in _members(owner)]
    public = sorted((name, member) for name, member in vars(value).items() if not name.startswith("_"))
    return described + [f"{name} {_described(member)}" for name, member in public]


def _members(owner: type) -> list[tuple[str, object]]:
    """What a class defines that a task's output may depend on: any method, and public values."""
    kept = []
    for name, member in sorted(vars(owner).items()):
        member = getattr(member, "__func__", member)
        if isinstance(member, types.FunctionType) or not name.startswith("_"):
            kept.append((name, member))
    return kept


def _described(value: object, depth: int = 5) -> str:
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | torch.dtype | torch.device):
        return repr(value)
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)} {sha256(_bytes(value))}"
    if isinstance(value, np.ndarray | np.generic):
        return f"{value.dtype} {value.shape} {sha256(np.ascontiguousarray(value).tobytes())}"
    if isinstance(value, nn.Module):
        return f"{_printed(value)} {weights_identity(value.state_dict())}"
    if isinstance(value, types.FunctionType):
        if not depth:
            # One that calls itself encloses itself.
            return _described_code(value.__code__)
        enclosed = [_described_cell(cell, depth - 1) for cell in value.__closure__ or ()]
        defaults = _described([value.__defaults__, value.__kwdefaults__])
        return f"{_described_code(value.__code__)} {defaults} {enclosed}"
    if depth and isinstance(value, dict):
        return str(sorted((str(key), _described(member, depth - 1)) for key, member in value.items()))
    if depth and isinstance(value, list | tuple):
        return str([_described(member, depth - 1) for member in value])
    return _type_name(type(value))


def _described_cell(cell: types.CellType, depth: int) -> str:
    try:
        return _described(cell.cell_contents, depth)
    except ValueError:
        return "bound later"


def _described_code(code: types.CodeType) -> str:
    # The order in which a set of texts is shown changes from process to process.
    constants = [
        _described_code(part)
        if isinstance(part, types.CodeType)
        else str(sorted(map(repr, part)))
        if isinstance(part, frozenset)
        else repr(part)
        for part in code.co_consts
    ]
    return sha256(code.co_code, *(str(part).encode() for part in (code.co_names, code.co_varnames, constants)))


def _type_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
