"""The ensemble's seeds, and the separate streams of randomness that each seed fixes."""

import hashlib
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


def chosen_seed_ids(seed_id: int | None) -> list[int]:
    """The one seed id asked for, or all; raises UserError if it is out of range."""
    if seed_id is None:
        return list(range(len(load_seeds())))
    seed_of(seed_id)
    return [seed_id]


def seed_of(seed_id: int) -> int:
    """The seed that an id stands for; raises UserError if it is out of range."""
    seeds = load_seeds()
    if not 0 <= seed_id < len(seeds):
        raise UserError(f"seed_id {seed_id} is out of range: {seeds_file()} holds seeds 0 to {len(seeds) - 1}")
    return seeds[seed_id]


def stream_seed(seed: int, purpose: str) -> int:
    """A seed for one purpose ("initialisation", "batch order", ...), so that one can be varied with the others held."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {seed}".encode()).digest()[:8]) >> 1


def stream(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator of the stream that `seed` fixes for one purpose."""
    return torch.Generator().manual_seed(stream_seed(seed, purpose))
