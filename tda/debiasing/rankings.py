"""In which order training examples go: by group alignment of scores, or by what members say of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tda.statistics.group_alignment import ExampleStatistics

NEGATIVE, POSITIVE, SIGNIFICANT = "negative", "positive", "significant"
RANDOM, CLASS_BALANCED, GROUP_BALANCED = "random", "class_balanced", "group_balanced"
HIGHEST_LOSS, SELF_INFLUENCE, CONFIDENT_LEARNING = "highest_loss", "self_influence", "confident_learning"
FORGETTING, NEIGHBOURS, OWN_SCORES = "forgetting", "neighbours", "own_scores"
LEFT_OUT = "left_out"
OF_SCORES = (NEGATIVE, POSITIVE, SIGNIFICANT)
OF_MEMBERS = (HIGHEST_LOSS, SELF_INFLUENCE, CONFIDENT_LEARNING, LEFT_OUT, FORGETTING, NEIGHBOURS)
DRAWN = (RANDOM, CLASS_BALANCED, GROUP_BALANCED)
SELECTIONS = (*OF_SCORES, *DRAWN, *OF_MEMBERS)
KNOWN, CLASSES, AUTO = "known", "classes", "auto"
"""Groups of the test examples: the data set's, or classes where it has none; classes; pseudo-groups of Auto-D3M."""
RELABELLED = (NEGATIVE, SIGNIFICANT, RANDOM, OWN_SCORES, *OF_MEMBERS)
"""Selections whose examples can get another label instead of being removed; for the others that would make no sense."""

NOT_ANY = "-"
"""In place of a method, groups or an action where a selection has none; an empty word would be lost in a table."""
ALL_NEGATIVE, FLAGGED, BALANCE = "all negative", "flagged", "balance"
"""Numbers of examples that are no shares, beside the significant ones: all of negative mean, which is D3M's own rule; those
that confident learning flags; as many as make groups equal."""


@dataclass(frozen=True)
class Alignment:
    """How far each training example helps what matters, by one method's scores.

    groups: by which groups; sample (seeds, n), positive = helpful; statistics: of it, over the seeds.
    """

    method: str
    groups: str
    sample: np.ndarray
    statistics: ExampleStatistics

    def significant(self, level: float) -> np.ndarray:
        """Which examples (n,) bool are harmful, and told from noise at this level of the q-value."""
        return (self.statistics.mean < 0) & (self.statistics.q_value < level)

    @property
    def title(self) -> str:
        """Its name in columns and figures."""
        return self.method if self.groups in (NOT_ANY, KNOWN) else f"{self.method}_{self.groups}"


@dataclass(frozen=True)
class Ranking:
    """Training examples of which those with the lowest values (n,) go first.

    values is None where chance chooses. counts: numbers of examples to take, by the name of each.
    """

    selection: str
    method: str = NOT_ANY
    groups: str = NOT_ANY
    values: np.ndarray | None = None
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def drawn(self) -> bool:
        """Whether chance chooses, so that it is asked several times."""
        return self.values is None


def named_shares(shares: Sequence[float], num_train: int) -> dict[str, int]:
    """Numbers of examples by the names of the shares, such as 5%."""
    return {f"{100 * share:g}%": round(share * num_train) for share in shares}


def rankings_of(alignment: Alignment, selections: Sequence[str], shares: dict[str, int], level: float) -> list[Ranking]:
    """The orders that an alignment gives: most negative, most positive, and significantly negative ones alone.

    Beside the significant ones stand equally many of the most negative, whatever their q-values. Numbers that are 0, or leave
    fewer than a tenth of the training set, are left out.
    """
    mean, of = alignment.statistics.mean, (alignment.method, alignment.groups)
    significant = alignment.significant(level)
    exact = {ALL_NEGATIVE: int((mean < 0).sum()), SIGNIFICANT: int(significant.sum())}
    exact = {name: count for name, count in exact.items() if 0 < count <= 0.9 * len(mean)}
    of_significant = {SIGNIFICANT: exact[SIGNIFICANT]} if SIGNIFICANT in exact else {}
    found = []
    if NEGATIVE in selections:
        found.append(Ranking(NEGATIVE, *of, mean, shares | exact))
    if POSITIVE in selections:
        found.append(Ranking(POSITIVE, *of, -mean, shares))
    if SIGNIFICANT in selections:
        found.append(Ranking(SIGNIFICANT, *of, np.where(significant, mean, np.inf), of_significant))
    return [ranking for ranking in found if ranking.counts]
