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


def naive_components(scores: np.ndarray) -> list[float]:
    """The same of one pair (a, b, K), sum by sum."""
    a, b, count = scores.shape
    run = [[sum(scores[i, j]) / count for j in range(b)] for i in range(a)]
    grand = sum(map(sum, run)) / (a * b)
    start = [sum(run[i]) / b for i in range(a)]
    order = [sum(run[i][j] for i in range(a)) / a for j in range(b)]
    epoch = [sum(scores[i, j, k] for i in range(a) for j in range(b)) / (a * b) for k in range(count)]
    ms_start = b * count * sum((one - grand) ** 2 for one in start) / (a - 1)
    ms_order = a * count * sum((one - grand) ** 2 for one in order) / (b - 1)
    cells = [(i, j) for i in range(a) for j in range(b)]
    ms_both = count * sum((run[i][j] - start[i] - order[j] + grand) ** 2 for i, j in cells) / ((a - 1) * (b - 1))
    residuals = [(scores[i, j, k] - run[i][j] - epoch[k] + grand) ** 2 for i, j in cells for k in range(count)]
    ms_within = sum(residuals) / ((a * b - 1) * (count - 1))
    return [(ms_start - ms_both) / (b * count), (ms_order - ms_both) / (a * count), (ms_both - ms_within) / count, ms_within]


def test_components_are_the_mean_squares_solved():
    scores = np.random.default_rng(0).normal(size=(3, 4, 5, 2)) ** 3
    for pair in range(2):
        np.testing.assert_allclose(components(scores)[:, pair], naive_components(scores[..., pair]), rtol=1e-12)


def test_components_of_a_toy_are_those_it_was_made_of():
    found = components(toy(1)).mean(axis=1)
    np.testing.assert_allclose(found, list(KNOWN.values()), rtol=0.1)


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("alike", [False, True])
def test_shares_of_a_toy_lie_in_their_intervals(alike: bool, averaged: bool):
    contributions = np.array(list(KNOWN.values()))
    contributions[-1] /= 4 if averaged else 1
    found = shares(toy(2), alike, averaged)
    assert sum(each.value for each in found.shares.values()) == pytest.approx(1)
    for source, known in zip(SOURCES, contributions / contributions.sum(), strict=True):
        estimate = found.shares[source]
        assert estimate.low < known < estimate.high and abs(estimate.value - known) < 0.05
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
