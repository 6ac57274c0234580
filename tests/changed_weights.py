"""Retrainings with every example's weight a little changed: what derivatives through a training are compared with."""

from dataclasses import replace

import torch
from torch import Tensor

from tda.data.splits import Split
from tda.training.ensembles import seed_run
from tda.training.many_models import train_many
from tda.training.members import Member
from tda.training.taken_steps import Training

# Small: Adam divides by roots of what hardly ever moved, so that losses are strongly curved in weights.
CHANGE = 1e-7


def retrained(training: Training, test: Split, weights: list[Tensor], quantity: str = "losses") -> Tensor:
    """Each test example's quantity at each snapshot, trained with each of the weights: (weights, snapshots, n_test)."""
    runs = [replace(training.run, weights=each) for each in weights]
    found = dict(train_many(training.model, training.plan, training.objective, runs, training.train, evaluate_on=test))
    return torch.stack([torch.stack([getattr(each.evaluation, quantity) for each in found[i]]) for i in range(len(runs))])


def differences(training: Training, test: Split, at: float = 1.0, quantity: str = "losses", change: float = CHANGE) -> Tensor:
    """Central differences (snapshots, n_train, n_test) of the quantity in each training example's weight."""
    count = len(training.train)
    plain, changes = torch.full((count,), at, dtype=torch.float64), change * torch.eye(count, dtype=torch.float64)
    above, below = (retrained(training, test, list(plain + sign * changes), quantity) for sign in (1, -1))
    return ((above - below) / (2 * change)).transpose(0, 1)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected number, which must not be 0."""
    assert expected.abs().max() > 1e-6
    return float((found - expected).abs().max() / expected.abs().max())


def training_of(member: Member, train: Split, weights: Tensor | None = None, epochs: tuple[int, ...] = (4, 5, 6)) -> Training:
    """The member's own training, looked at after the given epochs."""
    run = seed_run(member.study, member.seed, weights, epochs)
    return Training(member.study.new_model(member.seed), member.plan, member.objective, run, train)
