"""Retraining on random subsets of the training set: the ground truth that attributions are judged by, and fitted to.

Two disjoint families of subsets are drawn, by purpose: "evaluation" subsets judge; "fitting" subsets are what
datamodels, empirical influence and the choice of damping may see.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tda.experiments.folders import Experiment
from tda.experiments.manifest import step
from tda.experiments.seeds import stream, stream_seed
from tda.system.devices import pick_device, prepare_process
from tda.system.errors import UserError
from tda.training.retrainings import Retraining, RetrainingStore

PURPOSES = ("evaluation", "fitting")


@dataclass(frozen=True)
class SubsetDraw:
    """Which random subsets are retrained on, and how often each.

    alpha: share of the training set in a subset; seeds of a subset's retrainings are its own, unlike those of every member.
    Raises UserError for an unknown purpose, a share outside (0, 1), or a count below 1.
    """

    purpose: str
    alpha: float
    num_subsets: int
    num_seeds: int

    def __post_init__(self) -> None:
        if self.purpose not in PURPOSES:
            raise UserError(f"unknown purpose {self.purpose}; known ones are {' and '.join(PURPOSES)}")
        if not 0 < self.alpha < 1:
            raise UserError(f"--alpha is the share of the training set in a subset, between 0 and 1, not {self.alpha}")
        if min(self.num_subsets, self.num_seeds) < 1:
            raise UserError(f"at least 1 subset and 1 seed are needed, not {self.num_subsets} and {self.num_seeds}")

    def positions(self, subset: int, num_train: int) -> Tensor:
        """Positions (round(alpha * num_train),) int64 in the training split, ascending, drawn uniformly."""
        size = round(self.alpha * num_train)
        if not 0 < size < num_train:
            raise UserError(f"a share of {self.alpha} of {num_train} training examples is no proper subset; change --alpha")
        order = torch.randperm(num_train, generator=stream(subset, f"{self.purpose} subset of {self.alpha}"))
        return order[:size].sort().values

    def masks(self, num_train: int, first_subset: int = 0) -> Tensor:
        """Which examples each subset from `first_subset` on holds: (num_subsets - first_subset, num_train) bool."""
        found = torch.zeros(self.num_subsets - first_subset, num_train, dtype=torch.bool)
        for row in range(len(found)):
            found[row, self.positions(first_subset + row, num_train)] = True
        return found

    def retrainings(self, num_train: int, first_subset: int = 0) -> list[Retraining]:
        """All retrainings from a subset on: the first seed of every subset, then the second of every subset, ..."""
        subsets = range(first_subset, self.num_subsets)
        counted = {subset: self.positions(subset, num_train) for subset in subsets}
        purpose = f"{self.purpose} retraining of {self.alpha}, seed"
        return [
            Retraining(counted[subset], stream_seed(subset, f"{purpose} {number}"))
            for number in range(self.num_seeds)
            for subset in subsets
        ]


@dataclass(frozen=True)
class SubsetOutputs:
    """masks (S, n_train) bool; margins and losses (R, S, n_test) float64 of R retrainings on each of S subsets."""

    masks: Tensor
    margins: Tensor
    losses: Tensor


def load_subset_outputs(store: RetrainingStore, draw: SubsetDraw, first_subset: int = 0) -> SubsetOutputs:
    """Read the retrainings of a draw from a subset on; raises UserError, which names the command, if any is missing."""
    experiment = store.experiment
    again = (
        f"run_subset_retraining.py --model {experiment.model} --task {experiment.task} --num_per_class "
        f"{experiment.num_per_class} --purpose {draw.purpose} --alpha {draw.alpha} --num_subsets {draw.num_subsets} "
        f"--num_seeds {draw.num_seeds}"
    )
    num_train = len(store.train)
    found = store.load(draw.retrainings(num_train, first_subset), again)
    shape = (draw.num_seeds, draw.num_subsets - first_subset, len(store.test))
    margins, losses = (values.double().view(shape) for values in (found.margins, found.losses))
    return SubsetOutputs(draw.masks(num_train, first_subset), margins, losses)


@dataclass
class SubsetRetrainingSettings:
    """The arguments of the retraining script."""

    model: str = "mlp"
    """Model to retrain: lr, mlp, cnn, cnn3 or resnet9."""
    task: str = "mnist"
    """Task whose examples the models are trained on."""
    num_per_class: int = 500
    """Training examples per class of the experiment, of which each subset holds a share."""
    purpose: str = "evaluation"
    """evaluation: subsets that judge the methods; fitting: subsets for datamodels, empirical influence and choosing damping."""
    alpha: float = 0.5
    """Share of the training examples in a subset."""
    num_subsets: int = 100
    """Number of subsets to retrain on."""
    num_seeds: int = 6
    """Retrainings of each subset, with different initialisation and batch order."""
    first_subset: int = 0
    """Retrain only from this subset on, counted from 0; with --num_subsets as its end, several processes can share the work."""
    device: str = "auto"
    """Device to compute on: cpu, cuda, or auto for cuda where there is one."""


def retrain_subsets(settings: SubsetRetrainingSettings) -> str:
    """Do the retrainings that are missing; returns the closing line. Raises UserError for unusable settings or files."""
    prepare_process()
    device = pick_device(settings.device)
    experiment = Experiment(settings.model, settings.task, settings.num_per_class)
    draw = SubsetDraw(settings.purpose, settings.alpha, settings.num_subsets, settings.num_seeds)
    if not 0 <= settings.first_subset < settings.num_subsets:
        raise UserError(f"--first_subset {settings.first_subset} must lie in 0 to {settings.num_subsets - 1}")
    store = RetrainingStore.of_splits(experiment)
    retrainings = draw.retrainings(len(store.train), settings.first_subset)
    name = f"{settings.purpose} subset retraining" + (f" from {settings.first_subset}" if settings.first_subset else "")
    with step(experiment, name, vars(settings), store.hashes(), device) as record:
        written = store.fill(retrainings, device, name)
        record.keep_earlier = written == 0
    folder = store.paths(retrainings[:1])[0].parent
    return f"retrained {written} models, kept {len(retrainings) - written} that were finished, in {folder}"
