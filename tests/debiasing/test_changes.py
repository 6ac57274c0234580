"""Changes of the training data: which examples, what becomes of them, and by how much models are better."""

import numpy as np
import pytest
import torch
from scipy import stats

from tda.debiasing.changes import (
    ACTIONS,
    RELABEL,
    REMOVE,
    TrainingData,
    change_columns,
    changes_of,
    comparison_rows,
    metric_columns,
    random_references,
    trainings_of,
)
from tda.debiasing.rankings import (
    ALL_NEGATIVE,
    CLASS_BALANCED,
    NEGATIVE,
    POSITIVE,
    RANDOM,
    SIGNIFICANT,
    Alignment,
    Ranking,
    named_shares,
    rankings_of,
)
from tda.statistics.group_alignment import example_statistics

VALUES = np.array([3.0, -2.0, 1.0, -4.0, 0.5, 2.0])
DATA = TrainingData(
    labels=np.array([0, 1, 2, 0, 1, 2]),
    predicted=np.array([0, 1, 1, 2, 1, 2]),
    groups=np.array(["a", "a", "a", "a", "b", "b"]),
    true_labels=np.array([0, 1, 1, 0, 0, 2]),
)
RANKING = Ranking(NEGATIVE, "trak", "known", VALUES, {"33%": 2, "67%": 4})


def test_removal_trains_on_the_others_and_relabelling_on_all_with_new_labels():
    remove, _, relabel, _ = changes_of(RANKING, DATA, ACTIONS, num_seeds=2, num_draws=3)
    first, second = trainings_of(remove, DATA, seeds=[7, 8])
    assert first.counted.tolist() == [0, 2, 4, 5] and (first.seed, second.seed) == (7, 8) and first.labels is None
    (changed, _) = trainings_of(relabel, DATA, seeds=[7, 8])
    assert changed.counted.tolist() == list(range(6)) and changed.labels.tolist() == [0, 1, 2, 2, 1, 2]
    assert torch.equal(changed.labels, trainings_of(relabel, DATA, seeds=[7, 8])[1].labels)
    nothing_new = TrainingData(DATA.labels, DATA.labels, None, None)
    assert trainings_of(relabel, nothing_new, seeds=[7, 8])[0].labels is None


def test_columns_say_how_many_labels_were_wrong_and_changed():
    relabel = changes_of(RANKING, DATA, [RELABEL], 1, 1)[1]
    columns = change_columns(relabel, DATA)
    # Chosen are 1, 2, 3 and 4, of which 2 and 4 have wrong labels and 2 and 3 are predicted otherwise.
    assert (columns["removed"], columns["new_labels"], columns["wrong_labels"]) == (4, 2, 0.5)
    assert columns["share"] == pytest.approx(4 / 6)
    assert np.isnan(change_columns(relabel, TrainingData(DATA.labels, DATA.predicted, None, None))["wrong_labels"])


def test_random_ones_are_drawn_anew_for_each_seed_and_stand_beside_every_number():
    changes = changes_of(RANKING, DATA, ACTIONS, 3, 2)
    changes += changes_of(Ranking(SIGNIFICANT, "if", "known", VALUES, {SIGNIFICANT: 3}), DATA, [REMOVE], 3, 2)
    shares = {"33%": 2, "67%": 4}
    found = random_references(changes, shares, DATA, ACTIONS, num_seeds=3, num_draws=2)
    named = {(one.action, one.number, one.count) for one in found}
    assert named == {(action, *share) for action in ACTIONS for share in (("33%", 2), ("67%", 4))} | {(REMOVE, "3 examples", 3)}
    positions = found[0].positions
    assert len(positions) == 3 and all(len(draws) == 2 for draws in positions)
    many = random_references([], shares, TrainingData(np.zeros(100), None, None, None), [REMOVE], 3, 2)[0]
    assert len({tuple(each) for draws in many.positions for each in draws}) == 6


def test_what_makes_no_sense_is_not_relabelled():
    for selection in (POSITIVE, CLASS_BALANCED):
        values = VALUES if selection == POSITIVE else None
        found = changes_of(Ranking(selection, values=values, counts={"33%": 2}), DATA, ACTIONS, 1, 1)
        assert [change.action for change in found] == [REMOVE]


def test_rankings_of_an_alignment_take_what_is_told_from_noise():
    generator = np.random.default_rng(0)
    means = np.r_[np.full(5, -3.0), np.full(15, 0.02), np.full(20, 2.0)]
    sample = means + generator.normal(size=(6, 40)) * np.r_[np.full(5, 0.1), np.full(15, 0.3), np.full(20, 0.1)]
    alignment = Alignment("trak", "known", sample, example_statistics(sample))
    shares = named_shares((0.1, 0.5), 40)
    assert shares == {"10%": 4, "50%": 20}
    negative, positive, significant = rankings_of(alignment, (NEGATIVE, POSITIVE, SIGNIFICANT), shares, 0.01)
    assert significant.counts == {SIGNIFICANT: 5} and np.flatnonzero(np.isfinite(significant.values)).tolist() == list(range(5))
    count = int((alignment.statistics.mean < 0).sum())
    assert negative.counts == shares | {ALL_NEGATIVE: count, SIGNIFICANT: 5} and 5 < count < 20
    np.testing.assert_array_equal(positive.values, -negative.values)
    noise = Alignment("trak", "known", sample - sample.mean(axis=0), example_statistics(generator.normal(size=(6, 40))))
    assert [each.selection for each in rankings_of(noise, (SIGNIFICANT,), shares, 1e-6)] == []


def test_differences_are_paired_over_seeds():
    generator = np.random.default_rng(0)
    changes = changes_of(RANKING, DATA, [REMOVE], 4, 1)
    changes += changes_of(Ranking(SIGNIFICANT, "trak", "known", VALUES, {SIGNIFICANT: 2}), DATA, [REMOVE], 4, 1)
    changes += random_references(changes, {"33%": 2}, DATA, [REMOVE], 4, 1)
    metrics = [{"accuracy": generator.random(4), "loss": generator.random(4)} for _ in changes]
    whole = {"accuracy": generator.random(4), "loss": generator.random(4)}
    nothing, *rows = comparison_rows(changes, metrics, whole, DATA)
    assert nothing["removed"] == 0 and nothing["accuracy"] == pytest.approx(whole["accuracy"].mean())
    by_chance = {change.count: found for change, found in zip(changes, metrics, strict=True) if change.selection == RANDOM}
    for change, found, row in zip(changes, metrics, rows, strict=True):
        difference = found["loss"] - whole["loss"]
        low, high = stats.t.interval(0.95, 3, difference.mean(), stats.sem(difference))
        assert row["loss_minus_all"] == pytest.approx(difference.mean())
        assert (row["loss_minus_all_low"], row["loss_minus_all_high"]) == pytest.approx((low, high))
        if change.selection == RANDOM:
            assert np.isnan(row["accuracy_minus_random"])
        else:
            expected = (found["accuracy"] - by_chance[change.count]["accuracy"]).mean()
            assert row["accuracy_minus_random"] == pytest.approx(expected)
        if change.selection == SIGNIFICANT:
            expected = (found["accuracy"] - metrics[0]["accuracy"]).mean()
            assert row["accuracy_minus_same_number"] == pytest.approx(expected)
        else:
            assert np.isnan(row["accuracy_minus_same_number"])


def test_a_share_s_interval_ends_where_shares_do():
    columns = metric_columns({"accuracy": np.array([0.99, 1.0, 0.97]), "loss": np.array([0.01, 0.3])}, {})
    assert columns["accuracy_high"] == 1 and columns["accuracy_low"] > 0.9 and columns["loss_low"] == 0
    assert columns["loss_high"] > 1
