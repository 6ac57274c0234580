"""Separate streams of randomness that a seed fixes, one for each purpose."""

import hashlib

import torch


def stream_seed(seed: int, purpose: str) -> int:
    """A seed for one purpose ("initialisation", "batch order", ...), so that one can be varied with the others held."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {seed}".encode()).digest()[:8]) >> 1


def stream(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator of the stream that `seed` fixes for one purpose."""
    return torch.Generator().manual_seed(stream_seed(seed, purpose))
