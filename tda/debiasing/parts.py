"""The test subset in two: examples that choose what is removed, and examples that judge it and are never looked at before."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tda.data.splits import split_of_indices
from tda.data.tasks import Task
from tda.statistics.group_alignment import alignment_weights, group_codes, group_means
from tda.system.errors import UserError
from tda.system.files import sha256
from tda.system.random_streams import stream
from tda.training.study import Study

ALL, WORST_GROUP, GROUPS = "all", "worst_group", "groups"
"""What may matter besides a file's examples: every example alike, those of one group, or groups as D3M weighs them."""


@dataclass(frozen=True)
class Parts:
    """Positions in the test split: selection and report (int64, ascending), which are disjoint."""

    selection: np.ndarray
    report: np.ndarray


@dataclass(frozen=True)
class Named:
    """Test examples that a file names: title, its name with a hash of its content; positions (k,) in the test split."""

    title: str
    positions: np.ndarray


def divided(strata: np.ndarray, share: float, draw: int) -> Parts:
    """Test examples divided at random, a share of each stratum (n,) int64 to select by and the rest to report on.

    Raises UserError for a share outside (0, 1), or where a part would be empty.
    """
    if not 0 < share < 1:
        raise UserError(f"--selection_share is the share of the test subset to select by, between 0 and 1, not {share}")
    order = torch.randperm(len(strata), generator=stream(draw, "selection part")).numpy()
    chosen = np.zeros(len(strata), dtype=bool)
    for stratum in np.unique(strata):
        members = order[strata[order] == stratum]
        chosen[members[: round(share * len(members))]] = True
    if not chosen.any() or chosen.all():
        raise UserError(f"--selection_share {share} of {len(strata)} test examples leaves none to select by or to report on")
    return Parts(np.flatnonzero(chosen), np.flatnonzero(~chosen))


def known_groups(task: Task, groups: np.ndarray | None, labels: np.ndarray) -> np.ndarray:
    """The group (n,) str of each example: what the data set says, else the name of its class."""
    return np.array(task.class_names, dtype=str)[labels] if groups is None else np.asarray(groups, dtype=str)


def named_examples(study: Study, matter: str) -> Named | None:
    """The test examples that matter where `matter` is a file of their indices; None where it is one of the words.

    Raises UserError for neither, for a file that cannot be used, and for indices outside of the test subset.
    """
    if matter in (ALL, WORST_GROUP, GROUPS):
        return None
    path = Path(matter)
    if not path.is_file():
        raise UserError(f"--matter is {ALL}, {WORST_GROUP}, {GROUPS} or a file of test indices, and there is no file {matter}")
    indices = split_of_indices(study.task, "test", path).indices.numpy()
    foreign = np.setdiff1d(indices, study.test.indices.numpy())
    if len(foreign):
        raise UserError(
            f"{path} holds index {foreign[0]}, which is not in the test subset of {study.task.name}, hence not scored"
        )
    title = f"{path.name} {sha256(path.read_bytes())[:8]}"
    return Named(title, np.flatnonzero(np.isin(study.test.indices.numpy(), indices)))


@dataclass(frozen=True)
class SelectionPart:
    """What is known of the m examples to select by.

    positions: in the test split; labels (m,) int64; losses (m,): mean cross-entropy of the members in nats; correct (m,): share
    of the members that are right.
    """

    positions: np.ndarray
    labels: np.ndarray
    losses: np.ndarray
    correct: np.ndarray

    def weights(self, matter: str, groups: Sequence | np.ndarray, beta: float, named: Named | None = None) -> np.ndarray:
        """How much each example counts, (m,) float64 of sum 1; groups: (m,), theirs.

        Raises UserError if none of the named examples is among them.
        """
        if matter == ALL:
            return np.full(len(self.positions), 1 / len(self.positions))
        if matter == GROUPS:
            return alignment_weights(groups, self.losses, beta)
        names, codes = group_codes(groups)
        is_worst = codes == names.index(self.worst(groups))
        inside = is_worst if named is None else np.isin(self.positions, named.positions)
        if not inside.any():
            raise UserError(f"none of the examples in {named.title} lies in the part to select by; change --selection_share")
        return inside / inside.sum()

    def worst(self, groups: Sequence | np.ndarray) -> str:
        """The group of the lowest accuracy; of equal ones that of the largest loss."""
        names, codes = group_codes(groups)
        found = np.lexsort((-group_means(self.losses, codes), group_means(self.correct, codes)))
        return names[found[0]]
