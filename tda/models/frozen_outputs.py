"""What a base's frozen stages make of images, kept on disk, since it is the same for every seed, script and subset.

It is kept in blocks of consecutive images, each in a file that is named by the hash of all that it is made from: the base's
weights, the stages, the size, and the images' own content. A subset that contains another finds the other's blocks, a killed
computation goes on with the block it was at, and what is of other images or other weights is never looked at.
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
from tda.system.tensor_files import read_tensors, write_tensors
from tda.system.tensor_heads import DamagedFileError

FORMAT = 1
BLOCK = 500
_IMAGES_AT_ONCE = 50


def frozen_outputs(model_name: str, stages: nn.Module, images: Tensor, made_from: dict, device: torch.device) -> Tensor:
    """Outputs (n, ...) float32, on the CPU, of frozen stages for images (n, c, h, w), computed where they are not kept yet.

    model_name: whose folder below models/ keeps them; made_from: plain values that identify the stages; device: where to
    compute. A damaged file is computed again. Raises UserError if an output is not finite.
    """
    on_place = None
    blocks = []
    for block in tqdm(images.split(BLOCK), desc=f"frozen layers of {model_name}", delay=2, leave=False):
        content = hashlib.sha256(block.contiguous().numpy().tobytes()).hexdigest()
        info = made_from | {"format": FORMAT, "images": content, "shape": list(block.shape)}
        path = frozen_outputs_file(model_name, hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()[:32])
        with locked(path):
            kept = _kept(path, info)
            if kept is None:
                on_place = on_place or on_device(copy.deepcopy(stages), device)
                kept = _computed(on_place, block, device)
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


def _computed(stages: nn.Module, block: Tensor, device: torch.device) -> Tensor:
    with torch.no_grad():
        pieces = block.split(_IMAGES_AT_ONCE)
        return torch.cat([stages(piece.to(device)).float().cpu().contiguous() for piece in pieces])
