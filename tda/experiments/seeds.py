"""The ensemble's seeds, and the separate streams of randomness that each seed fixes."""

from pathlib import Path

import torch

from tda.experiments.folders import seeds_file
from tda.system.errors import UserError


def load_seeds() -> list[int]:
    """Read random_seeds.pt; raises UserError if it is missing or is not a LongTensor of distinct seeds."""
    path: Path = seeds_file()
    try:
        seeds = torch.load(path, weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; restore it from the repository") from error
    except Exception as error:  # torch.load raises whatever its archive and unpickling layers raise
        raise UserError(f"{path} cannot be read as a tensor of seeds; restore it from the repository") from error
    if not isinstance(seeds, torch.Tensor) or seeds.dtype != torch.int64 or seeds.ndim != 1 or seeds.numel() == 0:
        raise UserError(f"{path} does not hold a one-dimensional LongTensor of seeds; restore it from the repository")
    if len(set(seeds.tolist())) < len(seeds):
        raise UserError(f"{path} holds a seed twice, so that two members would be the same; make its seeds distinct")
    return seeds.tolist()
