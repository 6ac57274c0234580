"""Which texts are left out by significance, and the rows of the tables, from falls that are given."""

from types import SimpleNamespace

import numpy as np
import pytest

from tda.facts.answers import Answers
from tda.facts.fact_removal import Falls, Removal
from tda.facts.found_texts import row_of_reliability
from tda.facts.removal_rows import HIGHEST, Removals, removal_table, removals_by_significance, removals_of, rows_alone
from tda.statistics import intervals
from tda.statistics.intervals import bootstrap_crossed
from tda.statistics.target_scores import TargetScores


def found(mean: list[list[float]], q: list[list[float]]) -> TargetScores:
    values = np.array(mean)
    return TargetScores("trak", values, values, np.ones_like(values), np.array(q))


def test_significant_texts_and_as_many_helpful_ones_that_are_not():
    mean = [[5.0, 5.0], [4.0, 4.0], [3.0, 3.0], [2.0, 2.0], [1.0, -1.0], [-9.0, -9.0]]
    q = [[0.01, 0.01], [0.9, 0.9], [0.01, 0.01], [0.9, 0.01], [0.9, 0.9], [0.001, 0.9]]
    removals = removals_by_significance(found(mean, q), 2, 0.05)
    # The second fact has one helpful text alone that is not significant.
    assert removals["trak", "significant"] == Removal([0], [[0, 2]])
    assert removals["trak", "not_significant"] == Removal([0], [[1, 3]])
    assert removals_by_significance(found(mean, q), 3, 0.05) == {}
    unknown = found(mean, np.full((6, 2), np.nan))
    assert removals_by_significance(unknown, 1, 0.05) == {}


def test_shares_of_significant_and_of_stating_pairs():
    values = found([[5.0, -4.0], [3.0, 2.0], [1.0, 1.0]], [[0.01, 0.01], [0.01, 0.9], [0.9, 0.01]])
    asked = SimpleNamespace(states=np.array([[True, True], [False, False], [False, True]]))
    row = row_of_reliability(values, asked, 0.05)
    assert row["significant_of_stating"] == pytest.approx(2 / 3)
    assert row["significant_of_others"] == pytest.approx(1 / 3)
    assert row["stating_of_significant"] == pytest.approx(2 / 3)
    alike = TargetScores("repsim", values.scores, values.mean, values.std, values.q)
    assert all(np.isnan(share) for share in row_of_reliability(alike, asked, 0.05).values())


class _Given:
    """Falls that are given in place of trainings."""

    def __init__(self, falls: dict[int, np.ndarray]) -> None:
        self.given = falls
        self.asked = _Asked()
        self.seeds = (1, 2, 3)
        self.study = SimpleNamespace(test=SimpleNamespace(indices=np.arange(100, 104)))

    def falls(self, removal: Removal, most: int, base: Answers) -> Falls:
        values = self.given[removal.texts[0][0]][list(removal.facts)] + (most == 1)
        yes = np.ones(values.shape, dtype=bool)
        return Falls(removal.facts, values, values / 10, yes, ~yes, np.full_like(values, 0.5), 2, 4.0)


class _Asked:
    states = np.eye(8, 4, dtype=bool)
    positions = np.arange(4)

    def __len__(self) -> int:
        return 4


def test_rows_pair_every_removal_with_random_and_stating_texts(monkeypatch: pytest.MonkeyPatch):
    # So few facts would have no intervals.
    monkeypatch.setattr(intervals, "FEWEST_ROWS", 2)
    generator = np.random.default_rng(0)
    given = _Given({text: generator.normal(size=(4, 3)) for text in range(8)})
    how = Removals(2, 3)
    scores = np.zeros((8, 4))
    scores[7], scores[6] = 2, 1
    each = TargetScores("bm25", scores, scores, scores, scores)
    removals = removals_of(given, [each], how)
    assert removals["bm25", HIGHEST] == Removal(range(4), [[7, 6]] * 4)
    assert [texts[0] for texts in removals["oracle", "-"].texts] == [0, 1, 2, 3]
    table = removal_table(given, removals, None, how).set_index("method")
    own, stating = given.given[7], given.given[0]
    row = table.loc["bm25"]
    assert (row["facts"], row["seeds"], row["trainings_a_seed"], row["removed_together"]) == (4, 3, 2, 4.0)
    expected = bootstrap_crossed(own)
    assert (row["fall"], row["fall_low"], row["fall_high"]) == pytest.approx((expected.value, expected.low, expected.high))
    apart = bootstrap_crossed(own - stating)
    assert row["more_than_oracle"] == pytest.approx(apart.value) and row["more_than_oracle_low"] == pytest.approx(apart.low)
    assert row["said_before"] == 1 and row["said_after"] == 0 and row["fall_of_others"] == 0.5
    assert np.isnan(table.loc["random", "more_than_random"])
    rows = list(rows_alone(given, ("bm25", HIGHEST), removals["bm25", HIGHEST], None, how, 2))
    assert [row["test_idx"] for row in rows] == [100, 101]
    for place, row in enumerate(rows):
        assert row["fall_alone"] == pytest.approx(own[place].mean() + 1)
        assert row["fall_together"] == pytest.approx(own[place].mean())
