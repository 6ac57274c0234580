"""The ensemble's seeds, and the separate streams of randomness that each seed fixes."""

from pathlib import Path

import numpy as np
import torch

from tda.experiments.folders import seeds_file
from tda.system.errors import UserError
from tda.system.files import reading

_INTEGERS = tuple(np.dtype(f"{kind}{width}") for kind in "iu" for width in (1, 2, 4, 8))
_TENSOR_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

# What a pickled array of integers names, by numpy 1 and by numpy 2; none of it runs code of the file's.
_RECONSTRUCT = np._core.multiarray._reconstruct
_ARRAY_CLASSES = [
    (_RECONSTRUCT, "numpy.core.multiarray._reconstruct"),
    (_RECONSTRUCT, "numpy._core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    *(type(dtype) for dtype in _INTEGERS),
]


def load_seeds() -> list[int]:
    """Read random_seeds.pt: distinct integers as a tensor or a numpy array, by torch.save; no other object is loaded.

    Raises UserError if it is missing, unreadable or anything else.
    """
    path: Path = seeds_file()
    try:
        with reading(path), torch.serialization.safe_globals(_ARRAY_CLASSES):
            found = torch.load(path, weights_only=True, map_location="cpu")
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; restore it from the repository") from error
    except Exception as error:  # torch.load raises whatever its archive and unpickling layers raise
        raise UserError(
            f"{path} cannot be read as a tensor of seeds: it is damaged, or holds other objects than tensors and arrays of "
            f"integers, which are not loaded, since they could run code; restore it from the repository"
        ) from error
    seeds = _integers(found)
    if not seeds:
        raise UserError(
            f"{path} does not hold a one-dimensional LongTensor of seeds, nor a numpy array; restore it from the repository"
        )
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{path} holds a seed twice, so that two members would be the same; make its seeds distinct")
    return seeds


def _integers(found: object) -> list[int]:
    """The integers of a one-dimensional tensor or array; none if it is anything else."""
    if isinstance(found, torch.Tensor):
        return found.tolist() if found.dim() == 1 and found.dtype in _TENSOR_INTEGERS and found.layout is torch.strided else []
    if isinstance(found, np.ndarray):
        return found.tolist() if found.ndim == 1 and found.dtype.kind in "iu" else []
    return []
