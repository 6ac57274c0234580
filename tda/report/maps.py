"""The influence maps that were made of an experiment's pairs, small enough for a page."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tda.experiments.folders import ResultsFolder
from tda.features.reductions import reduce_channels
from tda.system.errors import UserError
from tda.system.files import reading

_BUDGET = 1_000_000
"""Bytes of maps that a page holds at most."""


@dataclass(frozen=True)
class Maps:
    """Signed mean maps over the seeds, one value a pixel, in 255 steps of each map's own largest.

    entries: for each map the score, the indices of the test and the training example, the height, the width, its largest value
    and where it begins in `content`; left_out: how many did not fit.
    """

    entries: list[dict]
    content: bytes
    left_out: int


def read_maps(folder: ResultsFolder, checkpoints: Mapping[tuple[int, int], dict]) -> Maps:
    """All maps of run_feature_attribution.py that are of the present checkpoints; raises UserError if a file is damaged.

    checkpoints: what each says of itself, by seed id and epoch.
    """
    present = {info["sha256"] for info in checkpoints.values()}
    entries, parts, start, left_out = [], [], 0, 0
    for path in sorted((folder.path / "feature_attribution").glob("maps_*.npz")):
        score = path.stem.removeprefix("maps_")
        train, test, mean, made_from = _arrays(path)
        if not present.issuperset(made_from):
            continue
        signed = reduce_channels(torch.from_numpy(mean).double(), "largest", absolute=False).numpy()
        for train_index, test_index, one in zip(train.tolist(), test.tolist(), signed, strict=True):
            if start + one.size > _BUDGET:
                left_out += 1
                continue
            largest = float(np.abs(one).max())
            steps = np.rint(one / largest * 127) if largest > 0 else np.zeros_like(one)
            place = {"height": one.shape[0], "width": one.shape[1], "largest": largest, "start": start}
            entries.append({"score": score, "test": test_index, "train": train_index} | place)
            parts.append(steps.astype(np.int8).tobytes())
            start += one.size
    return Maps(entries, b"".join(parts), left_out)


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str | None]]:
    """Training and test indices, mean maps, and hashes of the checkpoints, which files of an earlier version do not tell."""
    try:
        with reading(path), np.load(path) as arrays:
            made_from = arrays["checkpoints"].tolist() if "checkpoints" in arrays else [None]
            return arrays["train_idx"], arrays["test_idx"], arrays["mean"], made_from
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged; delete it and run run_feature_attribution.py again") from error
