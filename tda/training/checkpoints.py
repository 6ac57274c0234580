"""Checkpoints: a model's state on disk, with what it was made from."""

from pathlib import Path

import torch
from torch import Tensor

from tda.models.model_state import ModelState
from tda.system.errors import UserError
from tda.system.tensor_files import read_tensors, write_tensors
from tda.system.tensor_heads import DamagedFileError
from tda.training.study import Study

FORMAT = 2


def save_checkpoint(study: Study, seed_id: int, epoch: int, state: ModelState, info: dict) -> None:
    """Write one checkpoint atomically, with `info` (plain values) and what it was made from in its metadata.

    Raises UserError, and writes nothing, if a value is not finite.
    """
    tensors = {f"parameter:{name}": tensor for name, tensor in state.parameters.items()}
    tensors |= {f"buffer:{name}": tensor for name, tensor in state.buffers.items()}
    for quantity, by_name in state.optimizer.items():
        tensors |= {f"optimizer:{quantity}:{name}": tensor for name, tensor in by_name.items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"training diverged: {name} of seed {seed_id} holds NaN or infinity after epoch {epoch}; nothing was written"
            )
    made_from = made_of(study, seed_id, epoch) | {
        "data": study.learned.fingerprint,
        "plan": study.plan.as_dict(),
        "origin": study.family.origin(study.task),
    }
    write_tensors(study.experiment.checkpoint_file(seed_id, epoch), tensors, info | made_from)


def made_of(study: Study, seed_id: int, epoch: int) -> dict:
    """Which checkpoint it is."""
    return {
        "format": FORMAT,
        "experiment": study.experiment.name,
        "seed_id": seed_id,
        "epoch": epoch,
        "seed": study.seed(seed_id),
    }


def read_checkpoint(path: Path, again: str) -> tuple[ModelState, dict]:
    """A checkpoint's state and what it says of itself; again: the command that makes it.

    Raises UserError, which names the command, if the file is missing or damaged.
    """
    if not path.exists():
        raise UserError(f"{path} is missing; train the ensemble first with {again}")
    try:
        tensors, info = read_tensors(path)
    except DamagedFileError as error:
        raise UserError(f"{error}; delete it and run {again}") from error
    return _as_state(tensors), info


def _as_state(tensors: dict[str, Tensor]) -> ModelState:
    parameters, buffers, optimizer = {}, {}, {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition(":")
        if kind == "parameter":
            parameters[name] = tensor
        elif kind == "buffer":
            buffers[name] = tensor
        else:
            quantity, _, name = name.partition(":")
            optimizer.setdefault(quantity, {})[name] = tensor
    return ModelState(parameters, buffers, optimizer)
