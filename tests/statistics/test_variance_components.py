"""Shares of variance: known ones of a toy, the mean squares by naive loops, sums, weights and what cannot be told."""

import numpy as np
import pytest

from tda.statistics.variance_components import SOURCES, components, shares
from tda.statistics.varied_sources import VARIED, p_values_where, samples

KNOWN = {"initialisation": 4.0, "order": 2.0, "combination": 1.0, "checkpoint": 3.0}


def toy(seed: int, starts: int = 6, orders: int = 5, checkpoints: int = 4, pairs: int = 2000, scale: float = 1.0) -> np.ndarray:
    """Scores with known components, epochs' effects and means; heavy tails, since nothing may hang on normal noise."""
    draw = np.random.default_rng(seed)

    def noise(variance: float, *shape: int) -> np.ndarray:
        return np.sqrt(variance) * draw.laplace(scale=np.sqrt(0.5), size=(*shape, pairs))

    scores = noise(KNOWN["initialisation"], starts, 1, 1) + noise(KNOWN["order"], 1, orders, 1)
    scores = scores + noise(KNOWN["combination"], starts, orders, 1) + noise(KNOWN["checkpoint"], starts, orders, checkpoints)
    return scale * (scores + draw.normal(size=(1, 1, 1, pairs)) + 10 * draw.normal(size=(1, 1, checkpoints, pairs)))


def naive_two_way(values: np.ndarray) -> list[float]:
    """Components of one pair's values (a, b), sum by sum."""
    a, b = values.shape
    grand = sum(map(sum, values)) / (a * b)
    start = [sum(values[i]) / b for i in range(a)]
    order = [sum(values[i][j] for i in range(a)) / a for j in range(b)]
    ms_start = b * sum((one - grand) ** 2 for one in start) / (a - 1)
    ms_order = a * sum((one - grand) ** 2 for one in order) / (b - 1)
    residuals = [(values[i][j] - start[i] - order[j] + grand) ** 2 for i in range(a) for j in range(b)]
    ms_both = sum(residuals) / ((a - 1) * (b - 1))
    return [(ms_start - ms_both) / b, (ms_order - ms_both) / a, ms_both]


def naive_components(scores: np.ndarray) -> list[float]:
    """The same of a pair's scores (a, b, K)."""
    of_mean = naive_two_way(scores.mean(axis=2))
    at_each = [sum(naive_two_way(scores[:, :, place])) for place in range(scores.shape[2])]
    return [*of_mean, sum(at_each) / len(at_each) - sum(of_mean)]


def known(checkpoints: int, averaged: bool = False) -> np.ndarray:
    """The toy's contributions: a run's mean has a part of each checkpoint's own noise, which nothing but this run has."""
    own = KNOWN["checkpoint"] / checkpoints
    within = 0 if averaged else KNOWN["checkpoint"] - own
    return np.array([KNOWN["initialisation"], KNOWN["order"], KNOWN["combination"] + own, within])


def test_components_are_the_mean_squares_solved():
    scores = np.random.default_rng(0).normal(size=(3, 4, 5, 2)) ** 3
    for pair in range(2):
        np.testing.assert_allclose(components(scores)[:, pair], naive_components(scores[..., pair]), rtol=1e-12)


def test_components_of_a_toy_are_those_it_was_made_of():
    found = components(toy(1)).mean(axis=1)
    np.testing.assert_allclose(found, known(4), rtol=0.1)


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("alike", [False, True])
def test_shares_of_a_toy_lie_in_their_intervals(alike: bool, averaged: bool):
    contributions = known(4, averaged)
    found = shares(toy(2), alike, averaged)
    assert sum(each.value for each in found.shares.values()) == pytest.approx(1)
    for source, share in zip(SOURCES, contributions / contributions.sum(), strict=True):
        estimate = found.shares[source]
        assert estimate.low <= share <= estimate.high and abs(estimate.value - share) < 0.05
    assert found.added_up.low < 1 < found.added_up.high


def test_the_epochs_own_effects_are_no_variance():
    scores = toy(3)
    moved = scores + 100 * np.arange(4)[:, None]
    for averaged in (False, True):
        one, other = shares(scores, True, averaged), shares(moved, False, averaged)
        assert other.shares["checkpoint"].value == pytest.approx(shares(scores, False, averaged).shares["checkpoint"].value)
        assert one.added_up.value == pytest.approx(1, abs=0.2)


def test_pairs_that_weigh_alike_do_not_hear_of_the_scale():
    scores, scales = toy(4, pairs=300), np.random.default_rng(5).lognormal(sigma=3, size=300)
    one, other = shares(scores, True, False), shares(scores * scales, True, False)
    for source in SOURCES:
        assert other.shares[source].value == pytest.approx(one.shares[source].value)
    assert shares(scores * scales, False, False).shares["order"].value != pytest.approx(one.shares["order"].value, abs=1e-3)


def test_one_source_alone():
    draw = np.random.default_rng(6)
    for source, shape in {"initialisation": (5, 1, 1), "order": (1, 5, 1), "combination": (5, 5, 1)}.items():
        found = shares(np.broadcast_to(draw.normal(size=(*shape, 500)), (5, 5, 3, 500)), False, True)
        assert found.shares[source].value == pytest.approx(1, abs=0.03), source
        assert found.shares["checkpoint"].value == pytest.approx(0, abs=1e-12)


def test_checkpoints_that_orders_share_are_no_combination():
    """Where the order does nothing, runs of a start are the same, their checkpoints too: nothing comes from the combination."""
    draw = np.random.default_rng(11)
    scores = draw.normal(size=(5, 1, 1, 400)) + draw.normal(size=(5, 1, 4, 400))
    found = shares(np.broadcast_to(scores, (5, 6, 4, 400)), False, False).shares
    assert found["order"].value == pytest.approx(0, abs=1e-12) and found["combination"].value == pytest.approx(0, abs=1e-12)
    assert found["initialisation"].value == pytest.approx(1.25 / 2, abs=0.05)
    assert found["checkpoint"].value == pytest.approx(0.75 / 2, abs=0.05)


def test_what_cannot_be_told_is_nan():
    constant = shares(np.ones((3, 3, 2, 4)), True, False)
    assert np.isnan(constant.shares["order"].value) and np.isnan(constant.added_up.value)
    smallest = shares(toy(7, starts=2, orders=2), True, False)
    assert np.isfinite(smallest.shares["order"].value) and np.isnan(smallest.shares["order"].low)
    scores = toy(8, pairs=10)
    scores[..., 3] = 5
    assert shares(scores, False, False).total == pytest.approx(components(np.delete(scores, 3, axis=-1)).sum())


def test_samples_differ_in_what_is_varied():
    runs = np.stack(np.meshgrid(np.arange(4), np.arange(3), indexing="ij"), axis=-1)
    for sample in samples(runs, "initialisation"):
        assert len(set(sample[:, 0])) == 3 and len(set(sample[:, 1])) == 1
    for sample in samples(runs, "order"):
        assert len(set(sample[:, 0])) == 1 and len(set(sample[:, 1])) == 3
    both = list(samples(runs, "both"))
    assert all(len(set(sample[:, 0])) == len(set(sample[:, 1])) == 3 for sample in both)
    assert len({tuple(run) for sample in both for run in sample}) == 9
    assert [len(list(samples(runs, varied))) for varied in VARIED] == [3, 4, 3]


def test_p_values_shrink_where_what_varies_is_held():
    """A score that depends on the order alone is certain where orders are held, however often it is computed."""
    runs = np.random.default_rng(9).normal(size=(1, 8, 3000)) + 0.01 * np.random.default_rng(10).normal(size=(8, 8, 3000))
    held, free = p_values_where(runs, "initialisation"), p_values_where(runs, "both")
    assert held["mean_p_value"] < 0.05 and held["share_q_below_level"] > 0.8
    assert free["mean_p_value"] == pytest.approx(0.5, abs=0.02) and free["share_p_below_level"] == pytest.approx(0.05, abs=0.02)
    assert free["variance"] == pytest.approx(1, abs=0.1) and held["variance"] == pytest.approx(1e-4, rel=0.1)
    assert held["mean_p_lowest"] <= held["mean_p_value"] <= held["mean_p_highest"] and held["runs"] == 8
