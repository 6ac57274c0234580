"""Random subsets of the training set: the ground truth that attributions are judged by, and fitted to.

Two disjoint families of subsets are drawn, by purpose: "evaluation" subsets judge; "fitting" subsets are what datamodels,
empirical influence and the choice of damping may see.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tda.system.errors import UserError
from tda.system.random_streams import stream, stream_seed
from tda.training.members import load_member
from tda.training.retrainings import Retraining, RetrainingStore
from tda.training.study import Study

PURPOSES = ("evaluation", "fitting")


@dataclass(frozen=True)
class SubsetDraw:
    """Which random subsets are retrained on, and how often each.

    alpha: share of the training set in a subset. seeds: where there are any, those of the members whose runs are repeated
    with the other examples' terms missing from the loss (the same run); otherwise a subset's retrainings have seeds of their
    own, unlike those of every member. Raises UserError for an unknown purpose, a share outside (0, 1), or a count below 1.
    """

    purpose: str
    alpha: float
    num_subsets: int
    num_retrainings: int
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.purpose not in PURPOSES:
            raise UserError(f"unknown purpose {self.purpose}; known ones are {' and '.join(PURPOSES)}")
        if not 0 < self.alpha < 1:
            raise UserError(f"--alpha is the share of the training set in a subset, between 0 and 1, not {self.alpha}")
        if min(self.num_subsets, self.num_retrainings) < 1:
            raise UserError(f"at least 1 subset and 1 retraining are needed, not {self.num_subsets} and {self.num_retrainings}")

    def positions(self, subset: int, num_train: int) -> Tensor:
        """Positions (round(alpha * num_train),) int64 in the training split, ascending, drawn uniformly.

        At least one example is left out. Raises UserError where the share is of no example.
        """
        size = min(round(self.alpha * num_train), num_train - 1)
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
        if self.seeds:
            return [Retraining(counted[subset], seed, same_run=True) for seed in self.seeds for subset in subsets]
        purpose = f"{self.purpose} retraining of {self.alpha}, seed"
        return [
            Retraining(counted[subset], stream_seed(subset, f"{purpose} {number}"))
            for number in range(self.num_retrainings)
            for subset in subsets
        ]

    def whole_runs(self, num_train: int) -> list[Retraining]:
        """The members' runs with nothing left out, which changes by leaving out are counted from; none without seeds."""
        return [Retraining(torch.arange(num_train), seed, same_run=True) for seed in self.seeds]


def share_kept(alpha: float, left_out: float | None) -> float:
    """The share of the training set in a subset: alpha, or what is left where the share left out is given instead of it.

    Raises UserError for a share left out that lies not between 0 and 1.
    """
    if left_out is None:
        return alpha
    if not 0 < left_out < 1:
        raise UserError(f"--left_out is the share of the training set that a subset lacks, between 0 and 1, not {left_out}")
    return round(1 - left_out, 12)


def repeated_runs(study: Study, num_retrainings: int) -> tuple[Study, tuple[int, ...]]:
    """The study as its members know it, with their choices of fine-tuning, and the seeds of the first members.

    As many as there are retrainings of the same run. Raises UserError for want of seeds, or of the first member.
    """
    if num_retrainings > len(study.seeds):
        raise UserError(
            f"--num_retrainings {num_retrainings} is too large for retrainings of the same run: random_seeds.pt holds "
            f"{len(study.seeds)} seeds"
        )
    return load_member(study, 0, study.plan.kept_epochs[-1]).study, study.seeds[:num_retrainings]


@dataclass(frozen=True)
class SubsetOutputs:
    """masks (S, n_train) bool; margins and losses (R, S, n_test) float64 of R retrainings on each of S subsets.

    whole_losses: (R, n_test) float64 of the same runs with nothing left out; None where the retrainings are no such runs.
    """

    masks: Tensor
    margins: Tensor
    losses: Tensor
    whole_losses: Tensor | None = None


def load_subset_outputs(store: RetrainingStore, draw: SubsetDraw, first_subset: int = 0) -> SubsetOutputs:
    """Read the retrainings of a draw from a subset on; raises UserError, which names the command, if any is missing."""
    experiment = store.study.experiment
    again = (
        f"run_subset_retraining.py {experiment.arguments} --purpose {draw.purpose} --alpha {draw.alpha} --num_subsets "
        f"{draw.num_subsets} --num_retrainings {draw.num_retrainings}{' --same_run' if draw.seeds else ''}"
    )
    num_train = len(store.study.train)
    found = store.load(draw.retrainings(num_train, first_subset), again)
    shape = (draw.num_retrainings, draw.num_subsets - first_subset, len(store.study.test))
    margins, losses = (values.double().view(shape) for values in (found.margins, found.losses))
    whole = store.load(draw.whole_runs(num_train), again).losses.double() if draw.seeds else None
    return SubsetOutputs(draw.masks(num_train, first_subset), margins, losses, whole)
