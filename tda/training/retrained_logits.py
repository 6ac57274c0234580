"""What models retrained on chosen training examples, perhaps with other labels, say of a split: logits, a file a retraining.

retrainings.py keeps the losses, margins and predictions that judge attribution. Whoever changes the training data asks more:
how sure the new model is of every class, and what it says of training examples that it did not see; of a language model, whose
logits would be too many to keep, a few numbers of them. The files are named after a hash of all that their numbers depend on,
like those of retrainings.py, beside which they lie.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from tda.data.splits import Split
from tda.models.model_state import ModelState, read_state, write_state
from tda.system.devices import on_device
from tda.system.errors import UserError
from tda.system.files import sha256
from tda.system.tensor_files import read_tensors, write_tensors
from tda.system.tensor_heads import DamagedFileError
from tda.system.workers import in_order
from tda.training.evaluation import logits_of_split
from tda.training.many_models import train_many
from tda.training.retrainings import without
from tda.training.runs import Run
from tda.training.study import Study

# As in retrainings.py: enough for a GPU's stack, few enough to hold every start and batch in memory.
_CHUNK = 40


@dataclass(frozen=True)
class ChangedTraining:
    """One training on changed data.

    counted: positions (m,) int64 in the training split that are trained on, ascending; an epoch is a shuffle of them. seed: of
    start and batches. labels: (n_train,) int64, those of all training examples; None leaves them as they are.
    """

    counted: Tensor
    seed: int
    labels: Tensor | None = None

    @property
    def content(self) -> tuple[bytes, bytes]:
        """What tells it apart: the labels, then the rest."""
        labels = b"" if self.labels is None else self.labels.numpy().tobytes()
        return labels, self.counted.numpy().tobytes() + str(self.seed).encode()


@dataclass(frozen=True)
class LogitStore:
    """The changed trainings of a study, and what they say of one split, `evaluated`, on the CPU as the study's own ones are.

    what: a word for what is kept of them, which tells the files apart; measure: (model, split) -> that, a tensor (n, ...).
    """

    study: Study
    evaluated: Split
    what: str = "logits"
    measure: Callable[[nn.Module, Split], Tensor] = logits_of_split

    def paths(self, trainings: Sequence[ChangedTraining]) -> list[Path]:
        """The file of each training."""
        study = self.study
        made_from = study.plan.as_dict() | study.family.origin(study.task)
        content = (study.train.fingerprint, self.evaluated.fingerprint, sorted(made_from.items()), self.what)
        names = (sha256(repr(content).encode(), *training.content) for training in trainings)
        return [study.results.retraining_file(name[:24]) for name in names]

    def fill(self, trainings: Sequence[ChangedTraining], title: str, force: bool = False) -> int:
        """Train what is missing or damaged, or everything, write each as it is done, and return the number written.

        Trainings that are equal are done once. Raises UserError for one that diverges.
        """
        pairs = dict(zip(self.paths(trainings), trainings, strict=True))
        missing = [(path, training) for path, training in pairs.items() if force or self._read(path) is None]
        by_labels = sorted(missing, key=lambda pair: pair[1].content[0])
        if not missing:
            return 0
        model = on_device(self.study.new_model(), self.study.device)
        evaluated = self.study.inputs(self.evaluated)
        train = self.study.inputs(self.study.train)
        with tqdm(total=len(missing), desc=title, delay=2) as bar:
            for _, same in groupby(by_labels, key=lambda pair: pair[1].content[0]):
                for path, state in self._trained(model, train, list(same), force):
                    self._write(path, self._measured(model, state, evaluated))
                    bar.update()
        return len(missing)

    def load(self, trainings: Sequence[ChangedTraining], again: str) -> Tensor:
        """Logits (trainings, n, C) float32 of the evaluated split, or what is measured, of trainings that were filled.

        again: the command that makes them. Raises UserError, which names it, if one is missing or damaged.
        """
        found = [self._read(path) for path in self.paths(trainings)]
        missing = sum(each is None for each in found)
        if missing:
            raise UserError(
                f"{missing} of {len(found)} retrainings in {self.study.results.path} are missing or damaged; run {again}"
            )
        return torch.stack(found)

    def said_without(self, removed: Sequence[Iterable[int]], seeds: Sequence[int], again: str, force: bool = False) -> Tensor:
        """What is measured after trainings without each of R sets of training positions, by each of S seeds: (R, S, n, ...).

        Those that are missing are done. again: as load.
        """
        counted = [without(len(self.study.train), map(int, positions)) for positions in removed]
        trainings = [ChangedTraining(kept, seed) for kept in counted for seed in seeds]
        self.fill(trainings, "trainings on a part", force)
        return self.load(trainings, again).unflatten(0, (len(counted), len(seeds)))

    def _trained(
        self, model: nn.Module, train: Split, pairs: list[tuple[Path, ChangedTraining]], force: bool
    ) -> Iterator[tuple[Path, ModelState]]:
        """The final state of each training, all of which have the same labels."""
        labels = pairs[0][1].labels
        if labels is not None:
            train = replace(train, labels=labels.to(train.labels.device))
        for start in range(0, len(pairs), _CHUNK):
            # Another process may have done some of them by now.
            chunk = [pair for pair in pairs[start : start + _CHUNK] if force or self._read(pair[0]) is None]
            runs = [self._run(training) for _, training in chunk]
            study = self.study
            for number, (last,) in train_many(model, study.plan, study.task.objective, runs, train, keep_states=True):
                yield chunk[number][0], last.state

    def _run(self, training: ChangedTraining) -> Run:
        counted, plan = training.counted, self.study.plan
        batches = [counted[batch] for batch in plan.batches(training.seed, len(counted))]
        return Run(read_state(self.study.new_model(training.seed)), batches, [len(batches)], seed=training.seed)

    def _measured(self, model: nn.Module, state: ModelState, split: Split) -> Tensor:
        """What a trained state says, computed by one thread as the trainings themselves are."""

        def compute(_: int) -> Tensor:
            write_state(state, model)
            found = self.measure(model.eval(), split).cpu().contiguous()
            return found.float() if found.dtype.itemsize < 4 else found

        if split.device.type == "cuda":
            return compute(0)
        (found,) = in_order(compute, 1)
        return found

    def _write(self, path: Path, found: Tensor) -> None:
        if not torch.isfinite(found).all():
            raise UserError(f"a retraining diverged: its {self.what} are NaN or infinite; {path} was not written")
        write_tensors(path, {self.what: found}, {"name": path.stem})

    def _read(self, path: Path) -> Tensor | None:
        """The file's content; None if it is missing, damaged, or another retraining's under this name."""
        if not path.exists():
            return None
        try:
            tensors, info = read_tensors(path)
            return tensors[self.what] if info.get("name") == path.stem else None
        except (DamagedFileError, KeyError):
            return None
