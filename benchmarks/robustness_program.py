"""A program that uses TRAKer, for robustness.py to kill: two checkpoints, batches of eight, files in TDA_ROOT/traker."""

import os
from pathlib import Path

import common  # noqa: F401
import torch
from torch import Tensor, nn

from tda.trak import TRAKer

TRAIN, TARGETS, BATCH = 240, 48, 8


def network(seed: int) -> nn.Module:
    """A small convolutional classifier of ten classes."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 15 * 15, 10))


def batches(count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Images and labels of `count` examples."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = torch.randn(count, 3, 32, 32, generator=generator), torch.randint(10, (count,), generator=generator)
    return list(zip(images.split(BATCH), labels.split(BATCH), strict=True))


def main() -> None:
    """Featurize, score, and leave scores/program.mmap."""
    traker = TRAKer(
        network(0), "image_classification", TRAIN, save_dir=Path(os.environ["TDA_ROOT"]) / "traker", device="cpu", proj_dim=512
    )
    checkpoints = [network(seed).state_dict() for seed in range(2)]
    for model_id, checkpoint in enumerate(checkpoints):
        traker.load_checkpoint(checkpoint, model_id)
        for batch in batches(TRAIN, 0):
            traker.featurize(batch, num_samples=len(batch[0]))
    traker.finalize_features()
    for model_id, checkpoint in enumerate(checkpoints):
        traker.start_scoring_checkpoint("program", checkpoint, model_id, TARGETS)
        for batch in batches(TARGETS, 1):
            traker.score(batch, num_samples=len(batch[0]))
    traker.finalize_scores("program")


if __name__ == "__main__":
    main()
