"""Retraining from scratch on parts of the training set, kept as one small file a retraining.

The files are named after a hash of all that their numbers depend on: the data, the plan, the counted examples and the
seed. Whatever asks for a retraining that was done before finds it, and one of other data or another plan is never taken for it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from tqdm import tqdm

from tda.data.splits import Split, load_split
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment
from tda.models.families import family_of, new_model
from tda.models.model_state import read_state
from tda.system.errors import UserError
from tda.system.files import sha256, write_bytes
from tda.training.many_models import on_device, train_many
from tda.training.members import model_inputs
from tda.training.runs import Evaluation, Run

# Runs prepared at once: enough for a GPU's stack, few enough to hold every start and batch in memory.
_CHUNK = 40
_COLUMNS = ("losses", "margins", "predictions")


@dataclass(frozen=True)
class Retraining:
    """What is trained: positions (m,) int64 in the training split that count, ascending, and the seed of start and batches."""

    counted: Tensor
    seed: int


@dataclass(frozen=True)
class RetrainingStore:
    """The retrainings of one experiment on given splits; those are on the CPU."""

    experiment: Experiment
    train: Split
    test: Split

    @classmethod
    def of_splits(cls, experiment: Experiment) -> "RetrainingStore":
        """The retrainings on the experiment's drawn subset; raises UserError as load_split does."""
        train = load_split(experiment.task, "train", experiment.num_per_class)
        return cls(experiment, train, load_split(experiment.task, "test"))

    def hashes(self) -> dict[str, str]:
        """Fingerprints of the splits."""
        return {"train": self.train.fingerprint(), "test": self.test.fingerprint()}

    def paths(self, retrainings: Sequence[Retraining]) -> list[Path]:
        """The file of each retraining."""
        plan = family_of(self.experiment).plan(task_named(self.experiment.task))
        shared = repr((*self.hashes().values(), sorted(plan.as_dict().items()))).encode()
        names = (sha256(shared, one.counted.numpy().tobytes(), str(one.seed).encode()) for one in retrainings)
        return [self.experiment.results.retraining_file(name[:24]) for name in names]

    def fill(self, retrainings: Sequence[Retraining], device: torch.device, title: str) -> int:
        """Train what is missing or damaged, write each as it is done, and return the number written.

        A model sees the counted examples alone: its epochs are shuffles of them in batches of the plan's size.
        """
        wanted = [pair for pair in zip(retrainings, self.paths(retrainings), strict=True) if _read(pair[1]) is None]
        family, task = family_of(self.experiment), task_named(self.experiment.task)
        train, test = (model_inputs(family, task, split, device) for split in (self.train, self.test))
        model = on_device(new_model(family, task, seed=0), device)
        written = 0
        with tqdm(total=len(wanted), desc=title, delay=2) as bar:
            for start in range(0, len(wanted), _CHUNK):
                # Another process may have done some of them by now.
                chunk = [pair for pair in wanted[start : start + _CHUNK] if _read(pair[1]) is None]
                runs = [self._run(retraining) for retraining, _ in chunk]
                for number, (snapshot,) in train_many(model, family.plan(task), runs, train, evaluate_on=test):
                    _write(chunk[number][1], snapshot.evaluation)
                    bar.update()
                written += len(chunk)
        return written

    def load(self, retrainings: Sequence[Retraining], again: str) -> Evaluation:
        """What the retrained models say of the test set: losses, margins and predictions (retrainings, n_test).

        again: the command that makes them. Raises UserError, which names it, if one is missing or damaged.
        """
        found = [_read(path) for path in self.paths(retrainings)]
        missing = sum(one is None for one in found)
        if missing:
            raise UserError(
                f"{missing} of {len(found)} retrainings in {self.experiment.results.path} are missing or damaged; run {again}"
            )
        return Evaluation(*(torch.stack([getattr(one, name) for one in found]) for name in _COLUMNS))

    def _run(self, retraining: Retraining) -> Run:
        family, task = family_of(self.experiment), task_named(self.experiment.task)
        counted = retraining.counted
        batches = [counted[batch] for batch in family.plan(task).batches(retraining.seed, len(counted))]
        return Run(read_state(new_model(family, task, retraining.seed)), batches, [len(batches)], seed=retraining.seed)


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
    write_bytes(path, safetensors.torch.save(tensors, {"tda": json.dumps({"sha256": _content_hash(tensors)})}))


def _read(path: Path) -> Evaluation | None:
    """The file's content; None if it is missing or damaged."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in _COLUMNS}
            intact = json.loads(file.metadata()["tda"])["sha256"] == _content_hash(tensors)
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError):
        return None
    return Evaluation(tensors["losses"], tensors["margins"], tensors["predictions"].long()) if intact else None


def _content_hash(tensors: dict[str, Tensor]) -> str:
    return sha256(*(tensor.contiguous().numpy().tobytes() for tensor in tensors.values()))
