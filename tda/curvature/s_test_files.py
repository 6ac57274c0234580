"""s_test files: (curvature + damping)^-1 g_test of every test example, so that a new training example costs one product.

The score of a training example z is g_z^T s_test, positive = helpful (Koh and Liang 2017, section 2.2). A file holds one
float32 tensor "s_test" (n_test, p), p the trained parameters end to end, and is written block by block, so that it never has
to fit into memory.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from tda.curvature.inverses import Inverse, blocks_of_gradients
from tda.curvature.products import unflatten
from tda.data.splits import Split
from tda.models.model_state import trained_parameters
from tda.system.errors import UserError
from tda.system.files import write_atomically
from tda.training.members import Member

_MEND = "delete it and run the s_test script again"


def write_s_test(path: Path, member: Member, test: Split, inverse: Inverse, info: dict) -> float:
    """Solve for every test example and write the file atomically; returns the largest relative residual.

    Raises UserError if a value is not finite or the disk cannot hold the file.
    """
    size = sum(parameter.numel() for parameter in trained_parameters(member.model).values())
    largest = 0.0

    def blocks() -> Iterator[Tensor]:
        nonlocal largest
        for positions, rows in blocks_of_gradients(member, test):
            solved, residual = inverse(rows.dense())
            if not torch.isfinite(solved).all():
                raise UserError(
                    f"s_test of seed {member.seed_id}, epoch {member.epoch} is not finite for a test example among positions "
                    f"{int(positions[0])} to {int(positions[-1])}; raise the damping; nothing was written"
                )
            largest = max(largest, residual)
            yield solved

    write_atomically(path, lambda file: _write_stream(file, (len(test), size), info, blocks()))
    return largest


def _write_stream(path: Path, shape: tuple[int, int], info: dict, blocks: Iterator[Tensor]) -> None:
    """The safetensors format by hand, since the library wants the whole tensor in memory.

    The checksum stands in the header, which is written twice: its length is known before its value.
    """
    digest = hashlib.sha256()
    with open(path, "r+b") as file:
        file.write(_header(shape, info, "0" * 2 * digest.digest_size))
        for block in blocks:
            content = block.cpu().contiguous().numpy().tobytes()
            digest.update(content)
            file.write(content)
        file.seek(0)
        file.write(_header(shape, info, digest.hexdigest()))


def _header(shape: tuple[int, int], info: dict, checksum: str) -> bytes:
    tensor = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 4 * shape[0] * shape[1]]}
    described = {"sha256": checksum, "tda": json.dumps(info, sort_keys=True)}
    header = json.dumps({"__metadata__": described, "s_test": tensor}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def read_info(path: Path) -> dict:
    """What an s_test file says of itself; raises UserError if its header is not whole."""
    return json.loads(_described(path)["tda"])


def _described(path: Path) -> dict[str, str]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            described = file.metadata()
        return {"sha256": described["sha256"], "tda": described["tda"]}
    except (OSError, safetensors.SafetensorError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a whole s_test file of this project; {_MEND}") from error


def _check_content(path: Path) -> None:
    """Raise UserError unless the numbers are those that were written."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        while content := file.read(1 << 24):
            digest.update(content)
    if digest.hexdigest() != _described(path)["sha256"]:
        raise UserError(f"{path} is damaged: its values do not match its checksum; {_MEND}")


def score_new_examples(path: Path, member: Member, new: Split) -> Tensor:
    """Scores (n_new, n_test) float32 of training examples that the member never saw: one product with the kept vectors.

    Raises UserError if the file is damaged or belongs to another member.
    """
    info = read_info(path)
    expected = {"experiment": member.experiment.name, "seed_id": member.seed_id, "epoch": member.epoch}
    if {key: info[key] for key in expected} != expected:
        raise UserError(f"{path} holds s_test of another member; {_MEND}")
    _check_content(path)
    scores = []
    with safetensors.safe_open(path, framework="pt") as file:
        kept = file.get_slice("s_test")
        for start in range(0, kept.get_shape()[0], 64):
            vectors = unflatten(kept[start : start + 64].to(new.images.device), member.model)
            scores.append(torch.cat([rows.times(vectors) for _, rows in blocks_of_gradients(member, new)], dim=1).T)
    return torch.cat(scores, dim=1).float().cpu()
