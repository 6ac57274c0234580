"""What a base's frozen stages make of images or texts, kept on disk, since it is the same for every seed, script and subset.

It is kept in blocks of consecutive examples, each in a file that is named by the hash of all that it is made from: the base's
weights, the stages, the size, and the examples' own content. A subset that contains another finds the other's blocks, a killed
computation goes on with the block it was at, and what is of other examples or other weights is never looked at.
"""

import copy
import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from tda.experiments.folders import frozen_outputs_file
from tda.system.devices import on_device
from tda.system.errors import UserError
from tda.system.files import locked
from tda.system.inputs import Inputs, batches_of, mapped
from tda.system.tensor_files import read_tensors, write_tensors
from tda.system.tensor_heads import DamagedFileError

FORMAT = 1
BLOCK = 500
_AT_ONCE = 50


def frozen_outputs(model_name: str, stages: nn.Module, inputs: Inputs, made_from: dict, device: torch.device) -> Tensor:
    """Outputs (n, ...) float32, on the CPU, of frozen stages for inputs (n, ...), computed where they are not kept yet.

    model_name: whose folder below models/ keeps them; made_from: plain values that identify the stages; device: where to
    compute. A damaged file is computed again. Raises UserError if an output is not finite.
    """
    placed, blocks = None, []
    for block in tqdm(list(batches_of(inputs, BLOCK)), desc=f"frozen layers of {model_name}", delay=2, leave=False):
        info = made_from | {"format": FORMAT, "inputs": _identity(block)}
        path = frozen_outputs_file(model_name, hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()[:32])
        with locked(path.parent):
            kept = _kept(path, info)
            if kept is None:
                placed = on_device(copy.deepcopy(stages), device) if placed is None else placed
                kept = _computed(placed, block, device)
                if not torch.isfinite(kept).all():
                    raise UserError(f"the frozen layers of {model_name} give NaN or infinity; choose another --base")
                write_tensors(path, {"outputs": kept}, info)
        blocks.append(kept)
    return torch.cat(blocks)


def _kept(path: Path, info: dict) -> Tensor | None:
    """The file's outputs; None if there are none, or none that are whole and made from just this."""
    if not path.exists():
        return None
    try:
        tensors, kept_info = read_tensors(path)
    except DamagedFileError:
        return None
    same = all(kept_info.get(key) == value for key, value in info.items())
    return tensors["outputs"] if same and "outputs" in tensors else None


def _identity(block: Inputs) -> dict[str, str]:
    """Of each tensor its shape and the hash of its content."""
    named = block if isinstance(block, dict) else {"": block}
    return {
        name: f"{tuple(part.shape)} {hashlib.sha256(part.contiguous().numpy().tobytes()).hexdigest()}"
        for name, part in sorted(named.items())
    }


def _computed(stages: nn.Module, block: Inputs, device: torch.device) -> Tensor:
    outputs = []
    with torch.no_grad():
        for piece in batches_of(block, _AT_ONCE):
            placed = mapped(piece, lambda part: part.to(device))
            found = stages(**placed) if isinstance(placed, dict) else stages(placed)
            outputs.append(found.float().cpu().contiguous())
    return torch.cat(outputs)
