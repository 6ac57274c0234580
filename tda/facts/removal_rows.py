"""What leaving texts out does to the answers, as rows of tables: each method's texts, random ones, and stating ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tda.facts.answers import Answers
from tda.facts.fact_removal import (
    Falls,
    Removal,
    Retrained,
    difference,
    highest_texts,
    oracle_texts,
    random_texts,
)
from tda.statistics.intervals import over_examples_and_seeds
from tda.statistics.target_scores import TargetScores

RANDOM, ORACLE = "random", "oracle"
OWN_TITLES = {RANDOM: "random texts", ORACLE: "texts that state it"}
"""What a reader calls the rows that are no method's."""
HIGHEST, SIGNIFICANT, NOT_SIGNIFICANT = "highest", "significant", "not_significant"
KEYS = ("method", "selection", "removed")
_COMPARED = (RANDOM, ORACLE, "bm25")


@dataclass(frozen=True)
class Removals:
    """How texts are left out: how many of each fact, and of how many facts at most in one training."""

    count: int
    facts_at_once: int


def removals_of(retrained: Retrained, chosen: Sequence[TargetScores], how: Removals) -> dict[tuple[str, str], Removal]:
    """Random texts, those that state the fact, and the highest of each method, of all asked facts, by method and selection."""
    facts, states = range(len(retrained.asked)), retrained.asked.states
    found = {
        (RANDOM, "-"): Removal(facts, random_texts(len(states), len(facts), how.count)),
        (ORACLE, "-"): Removal(facts, oracle_texts(states, how.count)),
    }
    return found | {(each.method, HIGHEST): Removal(facts, highest_texts(each.scores, how.count)) for each in chosen}


def removals_by_significance(found: TargetScores, count: int, level: float) -> dict[tuple[str, str], Removal]:
    """The `count` highest of the significantly helpful texts, and of the helpful ones that are not, of facts with enough."""
    significant = found.significant(level)
    others = (found.mean > 0) & ~significant
    enough = np.flatnonzero((significant.sum(axis=0) >= count) & (others.sum(axis=0) >= count))
    removals = {}
    for name, among in ((SIGNIFICANT, significant), (NOT_SIGNIFICANT, others)):
        scores = np.where(among, found.scores, -np.inf)[:, enough]
        removals[found.method, name] = Removal(enough.tolist(), highest_texts(scores, count))
    return removals if len(enough) else {}


def removal_table(retrained: Retrained, removals: dict[tuple[str, str], Removal], base: Answers, how: Removals) -> pd.DataFrame:
    """A row for each removal, which is trained where it is missing."""
    falls = {key: retrained.falls(removal, how.facts_at_once, base) for key, removal in removals.items()}
    references = {key[0]: each for key, each in falls.items() if key[0] in _COMPARED}
    rows = []
    for (method, selection), fell in falls.items():
        row = {"method": method, "selection": selection, "removed": how.count} | _row(fell)
        for name in _COMPARED:
            other = references.get(name)
            if other is not None and other is not fell:
                row |= difference(fell, other).columns(f"more_than_{name}", f"more_than_{name}_low", f"more_than_{name}_high")
        rows.append(row)
    return pd.DataFrame(rows)


def _row(falls: Falls) -> dict:
    size = {"facts": len(falls.facts), "seeds": falls.log_probability.shape[1], "trainings_a_seed": falls.groups}
    fall, rank = over_examples_and_seeds(falls.log_probability), over_examples_and_seeds(falls.reciprocal_rank)
    told = {"said_before": falls.said_before.mean(), "said_after": falls.said_after.mean()}
    return (
        size
        | {"removed_together": falls.together}
        | fall.columns("fall", "fall_low", "fall_high")
        | rank.columns("reciprocal_rank_fall", "reciprocal_rank_fall_low", "reciprocal_rank_fall_high")
        | told
        | {"fall_of_others": falls.of_others.mean()}
    )


def rows_alone(
    retrained: Retrained, key: tuple[str, str], removal: Removal, base: Answers, how: Removals, count: int
) -> Iterator:
    """For the first `count` facts of a removal, the fall where their texts are left out alone, and with those of others."""
    together = retrained.falls(removal, how.facts_at_once, base)
    alone = retrained.falls(Removal(removal.facts[:count], removal.texts[:count]), 1, base)
    for place, fact in enumerate(alone.facts):
        yield {
            "method": key[0],
            "selection": key[1],
            "removed": how.count,
            "test_idx": int(retrained.study.test.indices[retrained.asked.positions[fact]]),
            "fall_alone": alone.log_probability[place].mean(),
            "fall_together": together.log_probability[place].mean(),
            "deviation_alone": alone.log_probability[place].std(ddof=1) if len(retrained.seeds) > 1 else np.nan,
            "seeds": len(retrained.seeds),
        }
