"""Training sets with examples removed or relabelled, the trainings on them, and how much better these are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tda.debiasing.rankings import (
    CLASS_BALANCED,
    GROUP_BALANCED,
    NEGATIVE,
    NOT_ANY,
    RANDOM,
    RELABELLED,
    SIGNIFICANT,
    Ranking,
)
from tda.debiasing.selections import balancing, lowest, random_positions
from tda.statistics.intervals import over_seeds
from tda.training.retrained_logits import ChangedTraining
from tda.training.retrainings import without

REMOVE, RELABEL = "remove", "relabel"
ACTIONS = (REMOVE, RELABEL)
NOTHING = "nothing"
"""The selection of no example: training on all."""


@dataclass(frozen=True)
class TrainingData:
    """What is changed: labels (n,) int64; predicted (n,) int64, those to replace them by; groups (n,), to balance by.

    true_labels: (n,), where the data set knows them.
    """

    labels: np.ndarray
    predicted: np.ndarray | None
    groups: np.ndarray | None
    true_labels: np.ndarray | None


@dataclass(frozen=True)
class Change:
    """A selection of so many examples, and what becomes of them.

    number: the name of the count. positions: which ones (count,), for each seed and draw; the same ones where none is drawn.
    """

    selection: str
    method: str
    groups: str
    action: str
    number: str
    count: int
    positions: tuple[tuple[np.ndarray, ...], ...]


def changes_of(ranking: Ranking, data: TrainingData, actions: Sequence[str], num_seeds: int, num_draws: int) -> list[Change]:
    """A change for each number of a ranking and each action that makes sense for it."""
    found = []
    for action in dict.fromkeys(actions):
        if action == RELABEL and ranking.selection not in RELABELLED:
            continue
        for number, count in ranking.counts.items():
            positions = _positions(ranking, data, count, num_seeds, num_draws)
            found.append(Change(ranking.selection, ranking.method, ranking.groups, action, number, count, positions))
    return found


def random_references(
    changes: Sequence[Change],
    shares: dict[str, int],
    data: TrainingData,
    actions: Sequence[str],
    num_seeds: int,
    num_draws: int,
) -> list[Change]:
    """Random changes of each share by each action, and of as many examples as each of the others changes, each once.

    What is no share is named by its count, since "significant" is another count for each method.
    """
    named = {(change.action, change.count): f"{change.count} examples" for change in changes}
    named |= {(action, count): number for action in actions for number, count in shares.items()}
    return [
        change
        for (action, count), number in sorted(named.items())
        for change in changes_of(Ranking(RANDOM, counts={number: count}), data, [action], num_seeds, num_draws)
    ]


def _positions(
    ranking: Ranking, data: TrainingData, count: int, num_seeds: int, num_draws: int
) -> tuple[tuple[np.ndarray, ...], ...]:
    if not ranking.drawn:
        return ((lowest(ranking.values, count),),) * num_seeds
    draw: Callable[[int], np.ndarray] = {
        RANDOM: lambda number: random_positions(len(data.labels), count, number),
        CLASS_BALANCED: lambda number: balancing(data.labels, count, number),
        GROUP_BALANCED: lambda number: balancing(data.groups, count, number),
    }[ranking.selection]
    return tuple(tuple(draw(seed * num_draws + number) for number in range(num_draws)) for seed in range(num_seeds))


def trainings_of(change: Change, data: TrainingData, seeds: Sequence[int]) -> list[ChangedTraining]:
    """The trainings of a change: all draws of the first seed, then of the next."""
    return [
        _training(change.action, positions, data, seed)
        for seed, draws in zip(seeds, change.positions, strict=True)
        for positions in draws
    ]


def _training(action: str, positions: np.ndarray, data: TrainingData, seed: int) -> ChangedTraining:
    num_train = len(data.labels)
    if action == REMOVE:
        return ChangedTraining(without(num_train, positions.tolist()), seed)
    labels = data.labels.copy()
    labels[positions] = data.predicted[positions]
    changed = None if np.array_equal(labels, data.labels) else torch.from_numpy(labels)
    return ChangedTraining(torch.arange(num_train), seed, changed)


def change_columns(change: Change, data: TrainingData) -> dict[str, float | str | int]:
    """What a change is, as columns of the table.

    share and removed: of the examples that are chosen; new_labels: how many get another label; wrong_labels: the share of the
    chosen whose label is wrong, NaN where nobody knows. Means over draws.
    """
    drawn = [positions for draws in change.positions for positions in draws]
    known, relabelled = data.true_labels is not None and change.count > 0, change.action == RELABEL
    wrong = [(data.labels[each] != data.true_labels[each]).mean() for each in drawn] if known else [np.nan]
    new = [(data.labels[each] != data.predicted[each]).sum() for each in drawn] if relabelled else [0]
    return {
        "selection": change.selection,
        "method": change.method,
        "groups": change.groups,
        "action": change.action,
        "number": change.number,
        "removed": change.count,
        "share": change.count / len(data.labels),
        "new_labels": float(np.mean(new)),
        "wrong_labels": float(np.mean(wrong)),
    }


Metrics = dict[str, np.ndarray]
"""Metrics by name, each (seeds,)."""


def metric_columns(found: Metrics, references: dict[str, Metrics | None]) -> dict[str, float]:
    """Means over seeds with 95 % intervals, and the same of paired differences to each reference; NaN where it is None."""
    columns: dict[str, float] = {}
    for name, values in found.items():
        found_ends = over_seeds(values).columns(name, f"{name}_low", f"{name}_high")
        # Student's formula does not know that a share lies between 0 and 1, and that a loss is positive.
        most = np.inf if name == "loss" else 1.0
        columns |= {title: float(np.clip(value, 0, most)) for title, value in found_ends.items()}
    for reference, others in references.items():
        for name, values in found.items():
            title = f"{name}_minus_{reference}"
            differences = np.full(len(values), np.nan) if others is None else values - others[name]
            columns |= over_seeds(differences).columns(title, f"{title}_low", f"{title}_high")
    return columns


def comparison_rows(
    changes: Sequence[Change], metrics: Sequence[Metrics], all_examples: Metrics, data: TrainingData
) -> list[dict]:
    """A row for training on all examples, and one for each change with its differences, paired over seeds.

    minus_all: to training on all; minus_random: to the same action on equally many random ones; minus_same_number: of the
    significant ones, to equally many of the most negative mean.
    """
    known = {_key(change): found for change, found in zip(changes, metrics, strict=True)}
    nothing = Change(NOTHING, NOT_ANY, NOT_ANY, NOT_ANY, NOT_ANY, 0, ((np.zeros(0, dtype=np.int64),),))
    unpaired = {"all": None, "random": None, "same_number": None}
    rows = [change_columns(nothing, data) | metric_columns(all_examples, unpaired)]
    for change, found in zip(changes, metrics, strict=True):
        by_chance = None if change.selection == RANDOM else known.get((RANDOM, NOT_ANY, NOT_ANY, change.action, change.count))
        of_mean = (NEGATIVE, change.method, change.groups, change.action, change.count)
        same = known.get(of_mean) if change.selection == SIGNIFICANT else None
        references = {"all": all_examples, "random": by_chance, "same_number": same}
        rows.append(change_columns(change, data) | metric_columns(found, references))
    return rows


def _key(change: Change) -> tuple:
    return change.selection, change.method, change.groups, change.action, change.count
