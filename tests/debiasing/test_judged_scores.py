"""Rows of the table of metrics: values, intervals over seeds, paired differences, and models whose parameters are shuffled."""

import numpy as np
import pytest
import torch
from conftest import Ensemble
from scipy import stats

from tda.debiasing.judged_scores import alike_rows, best_of, mean_of_pairs, overlap_rows, suspicion_rows
from tda.debiasing.randomised_model import scores_of_shuffled, shuffled
from tda.methods.registry import load_method
from tda.statistics.area_under_curve import area_under_curve
from tda.statistics.detection import overlaps


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(1)


def chosen(rows: list[dict], **keys: str) -> dict:
    (found,) = [row for row in rows if all(row[key] == value for key, value in keys.items())]
    return found


def test_suspicions_are_judged_by_seed_and_of_their_mean(generator: np.random.Generator):
    wrong = np.arange(50) < 12
    good, bad = (generator.normal(size=(4, 50)) + shift * wrong for shift in (1.0, 0.3))
    rows = suspicion_rows({"good": good, "bad": bad}, wrong, "bad")
    areas = {name: area_under_curve(values, wrong) for name, values in (("good", good), ("bad", bad))}
    one = chosen(rows, metric="wrong_labels_auc", score="good", seeds="one")
    assert one["value"] == pytest.approx(areas["good"].mean()) and one["chance"] == 0.5
    apart = areas["good"] - areas["bad"]
    low, high = stats.t.interval(0.95, 3, apart.mean(), stats.sem(apart))
    assert (one["difference"], one["difference_low"], one["difference_high"]) == pytest.approx((apart.mean(), low, high))
    mean = chosen(rows, metric="wrong_labels_auc", score="good", seeds="mean")
    assert mean["value"] == pytest.approx(area_under_curve(good.mean(axis=0), wrong))
    assert 0 <= mean["low"] <= mean["value"] <= mean["high"] <= 1
    assert np.isnan(chosen(rows, metric="wrong_labels_auc", score="bad", seeds="one")["difference"])
    assert chosen(rows, metric="wrong_labels_precision", score="bad", seeds="one")["chance"] == pytest.approx(12 / 50)
    assert len(rows) == 3 * 2 * 2 and best_of(rows, "wrong_labels_auc")["score"] == "good"


def test_differences_are_missing_without_what_to_compare_with(generator: np.random.Generator):
    rows = suspicion_rows({"only": generator.normal(size=(2, 9))}, np.arange(9) < 3, "out_of_fold")
    assert all(np.isnan(row["difference"]) for row in rows)


def test_shares_of_the_same_kind(generator: np.random.Generator):
    train, test = np.array(["a", "b"] * 6), np.array(["a", "b", "b"])
    scores = generator.normal(size=(3, 12, 3)) * 1e-3 + (train[:, None] == test)
    rows = alike_rows("group", {"sees": scores, "blind": np.zeros((3, 12, 3))}, 4, train, test)
    assert chosen(rows, score="sees", seeds="one")["value"] == 1
    assert chosen(rows, score="blind", seeds="mean")["value"] == chosen(rows, score="blind", seeds="mean")["chance"] == 0.5


def test_overlap_is_the_mean_over_pairs_of_seeds(generator: np.random.Generator):
    scores = generator.normal(size=(4, 20, 5))
    (row,) = overlap_rows({"noise": scores}, 5)
    pairs = overlaps(scores, 5)
    assert row["value"] == pytest.approx(np.mean([pairs[i, j] for i in range(4) for j in range(i)]))
    without = [np.mean([pairs[i, j] for i in range(4) for j in range(i) if left not in (i, j)]) for left in range(4)]
    half = stats.t.ppf(0.975, 3) * np.sqrt(3 * np.var(without))
    assert row["high"] - row["value"] == pytest.approx(min(half, 1 - row["value"]))
    assert row["chance"] == pytest.approx((25 / 20) / (10 - 25 / 20))
    assert np.isnan(mean_of_pairs(pairs[:2, :2]).low)


def test_shuffled_members_have_the_same_entries_elsewhere(ensemble: Ensemble):
    (member,) = ensemble.members(ensemble.study.plan.kept_epochs[-1])
    other = shuffled(member)
    for name, tensor in member.state.parameters.items():
        found = other.state.parameters[name]
        assert torch.equal(found.flatten().sort().values, tensor.flatten().sort().values)
    assert any(not torch.equal(other.state.parameters[name], tensor) for name, tensor in member.state.parameters.items())
    again = dict(shuffled(member).model.named_parameters())
    assert all(torch.equal(again[name], parameter) for name, parameter in other.model.named_parameters())
    method = load_method("grad_dot")
    scores = scores_of_shuffled(method, member, ensemble.train, ensemble.test, {})
    (expected,) = method.score([other], ensemble.train, ensemble.test, {})
    torch.testing.assert_close(scores, expected.scores)
