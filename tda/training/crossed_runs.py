"""Runs of a crossed design: every initialisation trained with every order of batches, and what a method says of each run.

The start of a training and the order of its batches come from streams of their own (random_streams.py). A run here takes its
start from one seed and its batches, and whatever else its steps draw, from another; with the same seed twice it is the run of
the ordinary ensemble. What a method draws for itself comes from the seed of the start.

Scores are kept as one small file a method and run, named after a hash of all that its numbers depend on, so that a killed step
goes on with what is missing, and nothing of other data, plans or settings is ever taken for it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tda.data.splits import Split
from tda.system.errors import UserError
from tda.system.files import sha256
from tda.system.tensor_files import read_tensors, write_tensors
from tda.system.tensor_heads import DamagedFileError
from tda.training.ensembles import members_in_memory
from tda.training.members import Member
from tda.training.study import Study

Scorer = Callable[[list[Member], Split, Split], Iterator[Tensor]]
"""From a run's checkpoints and both splits to scores (n_train, n_test) of each checkpoint, in their order."""


@dataclass(frozen=True)
class CrossedRuns:
    """A study's runs, of starts and orders that are given by their ids among the study's seeds."""

    study: Study
    starts: Sequence[int]
    orders: Sequence[int]

    def path(self, method: str, settings: dict, start: int, order: int) -> Path:
        """The file of one method's scores of one run."""
        study = self.study
        made_from = study.plan.as_dict() | study.family.origin(study.task)
        seeds = (study.seed(start), study.seed(order))
        parts = (*study.hashes.values(), sorted(made_from.items()), *seeds, sorted(settings.items()))
        return study.results.crossed_score_file(method, sha256(repr(parts).encode())[:24])

    def fill(self, method: str, settings: dict, score: Scorer, force: bool = False) -> int:
        """Train and score every run that is missing or damaged, or all, and write each as it is done; returns how many.

        Raises UserError if a score is not finite.
        """
        pairs = [(start, order) for start in self.starts for order in self.orders]
        written = 0
        for start, order in tqdm(pairs, desc=f"crossed runs, {method}", delay=2):
            # Another process may have done it by now.
            path = self.path(method, settings, start, order)
            if force or _read(path) is None:
                study = replace(self.study, order_seed=self.study.seed(order))
                members = members_in_memory(study, [start], study.plan.kept_epochs)
                train, test = study.inputs(study.train), study.inputs(study.test)
                _write(path, torch.stack([found.cpu().float() for found in score(members, train, test)]))
                written += 1
        return written

    def load(self, method: str, settings: dict, again: str) -> np.ndarray:
        """Scores (starts, orders, epochs, n_train, n_test) float32 of every run; the epochs ascend.

        again: the command that makes them. Raises UserError, which names it, if a file is missing or damaged.
        """
        found = [[_read(self.path(method, settings, start, order)) for order in self.orders] for start in self.starts]
        missing = sum(each is None for row in found for each in row)
        if missing:
            raise UserError(f"{missing} of the runs that {method} is to be judged by are missing or damaged; run {again}")
        return np.stack([np.stack([each.numpy() for each in row]) for row in found])


def _write(path: Path, scores: Tensor) -> None:
    if not torch.isfinite(scores).all():
        raise UserError(f"a score of a crossed run is NaN or infinite; {path} was not written")
    write_tensors(path, {"scores": scores.contiguous()}, {"name": path.stem})


def _read(path: Path) -> Tensor | None:
    """The file's scores; None if it is missing, damaged, or another run's under this name."""
    if not path.exists():
        return None
    try:
        tensors, info = read_tensors(path)
    except DamagedFileError:
        return None
    return tensors.get("scores") if info.get("name") == path.stem else None
