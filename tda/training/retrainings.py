"""Retraining from scratch on parts of the training set, kept as one small file a retraining.

There are two kinds, which answer different questions and never stand for each other. A retraining on the counted examples alone
has epochs of its own: another run, of fewer examples. A retraining of the same run has the start and the batches of the run of
that seed on all examples, and the other examples' terms are missing from its loss, as in leave-one-out.

The files are named after a hash of all that their numbers depend on: the data, the plan, the base that is fine-tuned, the
counted examples and the seed. Whatever asks for a retraining that was done before finds it, and one of other data or another
plan is never taken for it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from tda.models.model_state import read_state
from tda.system.devices import on_device
from tda.system.errors import UserError
from tda.system.files import sha256
from tda.system.tensor_files import read_tensors, write_tensors
from tda.system.tensor_heads import DamagedFileError
from tda.training.ensembles import seed_run
from tda.training.many_models import train_many
from tda.training.runs import Evaluation, Run
from tda.training.study import Study

# Runs prepared at once: enough for a GPU's stack, few enough to hold every start and batch in memory.
_CHUNK = 40
_COLUMNS = ("losses", "margins", "predictions")


@dataclass(frozen=True)
class Retraining:
    """What is trained: positions (m,) int64 in the training split that count, ascending, and the seed of start and batches.

    same_run: whether the batches are those of all examples, so that a loss is divided by the whole batch's size.
    """

    counted: Tensor
    seed: int
    same_run: bool = False


@dataclass(frozen=True)
class RetrainingStore:
    """The retrainings of one study on its splits."""

    study: Study

    def paths(self, retrainings: Sequence[Retraining]) -> list[Path]:
        """The file of each retraining."""
        study = self.study
        made_from = study.plan.as_dict() | study.family.origin(study.task)
        shared = repr((*study.hashes.values(), sorted(made_from.items()))).encode()
        names = (sha256(shared, *_told_apart_by(each)) for each in retrainings)
        return [study.results.retraining_file(name[:24]) for name in names]

    def fill(self, retrainings: Sequence[Retraining], title: str, force: bool = False) -> int:
        """Train what is missing or damaged, or everything, write each as it is done, and return the number written.

        A model sees the counted examples alone: its epochs are shuffles of them in batches of the plan's size, or, for the same
        run, those of all examples.
        """
        study = self.study
        wanted = [pair for pair in zip(retrainings, self.paths(retrainings), strict=True) if force or _read(pair[1]) is None]
        train, test = study.inputs(study.train), study.inputs(study.test)
        model = on_device(study.new_model(), study.device)
        written = 0
        with tqdm(total=len(wanted), desc=title, delay=2) as bar:
            for start in range(0, len(wanted), _CHUNK):
                # Another process may have done some of them by now.
                chunk = [pair for pair in wanted[start : start + _CHUNK] if force or _read(pair[1]) is None]
                runs = [self._run(retraining) for retraining, _ in chunk]
                for number, (snapshot,) in train_many(model, study.plan, study.task.objective, runs, train, evaluate_on=test):
                    _write(chunk[number][1], snapshot.evaluation)
                    bar.update()
                written += len(chunk)
        return written

    def load(self, retrainings: Sequence[Retraining], again: str) -> Evaluation:
        """What the retrained models say of the test set: losses, margins and predictions (retrainings, n_test).

        again: the command that makes them. Raises UserError, which names it, if one is missing or damaged.
        """
        found = [_read(path) for path in self.paths(retrainings)]
        missing = sum(each is None for each in found)
        if missing:
            raise UserError(
                f"{missing} of {len(found)} retrainings in {self.study.results.path} are missing or damaged; run {again}"
            )
        return Evaluation(*(torch.stack([getattr(each, name) for each in found]) for name in _COLUMNS))

    def _run(self, retraining: Retraining) -> Run:
        counted = retraining.counted
        if retraining.same_run:
            weights = torch.zeros(len(self.study.train), device=self.study.device)
            weights[counted] = 1
            return seed_run(self.study, retraining.seed, weights, epochs=[self.study.plan.epochs])
        batches = [counted[batch] for batch in self.study.plan.batches(retraining.seed, len(counted))]
        start = read_state(self.study.new_model(retraining.seed))
        return Run(start, batches, [len(batches)], seed=retraining.seed)


def _told_apart_by(retraining: Retraining) -> list[bytes]:
    parts = [retraining.counted.numpy().tobytes(), str(retraining.seed).encode()]
    return [*parts, b"same run"] if retraining.same_run else parts


def without(num_train: int, removed: Iterable[int]) -> Tensor:
    """Positions (num_train - removed,) int64 of all examples but the removed ones."""
    keep = torch.ones(num_train, dtype=torch.bool)
    keep[list(removed)] = False
    return keep.nonzero().flatten()


def _write(path: Path, evaluation: Evaluation) -> None:
    tensors = {
        "losses": evaluation.losses,
        "margins": evaluation.margins,
        "predictions": evaluation.predictions.to(torch.int32),
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"a retraining diverged: its {name} are NaN or infinite; {path} was not written")
    write_tensors(path, tensors, {"name": path.stem})


def _read(path: Path) -> Evaluation | None:
    """The file's content; None if it is missing, damaged, or another retraining's under this name."""
    if not path.exists():
        return None
    try:
        tensors, info = read_tensors(path)
        if info.get("name") != path.stem:
            return None
        return Evaluation(tensors["losses"], tensors["margins"], tensors["predictions"].long())
    except (DamagedFileError, KeyError):
        return None
