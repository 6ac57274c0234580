"""LDS of left-out subsets in both estimands: closed forms of a linear toy, and loops with scipy."""

import numpy as np
import pytest
from scipy import stats

from tda.statistics.left_out_lds import Retrained, columns_of_retrainings, lds_columns, predicted_rises

RUNS, SUBSETS, TRAIN, TESTS = 5, 12, 8, 6


def toy() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What subsets leave out (S, n), true effects of each example on the loss of each run (R, n, T), and losses (R, T)."""
    generator = np.random.default_rng(0)
    left_out = generator.permuted(np.arange(TRAIN) < 3, axis=0) & np.ones((SUBSETS, 1), bool)
    left_out = np.stack([generator.permutation(np.arange(TRAIN) < 3) for _ in range(SUBSETS)])
    effects = generator.normal(size=(TRAIN, TESTS)) + generator.normal(size=(RUNS, TRAIN, TESTS))
    return left_out, effects, 3 * generator.normal(size=(RUNS, TESTS))


def retrained(same_run: bool = True) -> tuple[np.ndarray, np.ndarray, Retrained]:
    left_out, effects, whole = toy()
    rises = np.stack([[[sum(effects[r, left_out[s], t]) for t in range(TESTS)] for s in range(SUBSETS)] for r in range(RUNS)])
    return left_out, effects, Retrained(whole, whole[:, None] + rises, same_run)


def spearman_of_tests(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.mean([stats.spearmanr(left[:, t], right[:, t]).statistic for t in range(left.shape[1])]))


def test_true_effects_of_a_linear_toy_predict_everything_in_any_unit():
    left_out, effects, truth = retrained()
    for unit in (1.0, 1e-6):
        found = lds_columns(predicted_rises(left_out, unit * effects), truth)
        measures = ("lds_run", "lds_means", "lds_variance", "lds_wasserstein")
        assert [found[name] for name in measures] == pytest.approx([1, 1, 1, 1])
        assert found["scale"] == pytest.approx(1 / unit) and 0 < found["lds_other_run"] < 0.9


def test_opposite_scores_rank_the_other_way_round():
    left_out, effects, truth = retrained()
    found = lds_columns(predicted_rises(left_out, -effects), truth)
    assert found["lds_run"] == found["lds_means"] == pytest.approx(-1)


def test_noise_predicts_nothing():
    left_out, effects, truth = retrained()
    generator = np.random.default_rng(1)
    found = [lds_columns(predicted_rises(left_out, generator.normal(size=effects.shape)), truth) for _ in range(30)]
    for name in ("lds_run", "lds_other_run", "lds_means", "lds_variance", "lds_wasserstein"):
        assert abs(np.mean([each[name] for each in found])) < 0.12


def test_measures_of_the_same_run_equal_loops():
    left_out, effects, truth = retrained()
    scores = effects + np.random.default_rng(2).normal(size=effects.shape)
    predicted = predicted_rises(left_out, scores)
    found = lds_columns(predicted, truth)
    rises = truth.losses - truth.whole[:, None]
    assert found["lds_run"] == pytest.approx(np.mean([spearman_of_tests(predicted[r], rises[r]) for r in range(RUNS)]))
    pairs = [(r, q) for r in range(RUNS) for q in range(RUNS) if r != q]
    assert found["lds_other_run"] == pytest.approx(np.mean([spearman_of_tests(predicted[r], rises[q]) for r, q in pairs]))
    assert found["lds_means"] == pytest.approx(spearman_of_tests(predicted.mean(axis=0), rises.mean(axis=0)))
    scale = np.abs(rises.mean(axis=0)).mean() / np.abs(predicted.mean(axis=0)).mean()
    moved = truth.whole[:, None] + scale * predicted
    variances = [losses.var(axis=0, ddof=1) for losses in (moved, truth.losses)]
    assert found["lds_variance"] == pytest.approx(spearman_of_tests(*variances))
    distances = [plain_distances(truth.whole, losses) for losses in (moved, truth.losses)]
    assert found["lds_wasserstein"] == pytest.approx(spearman_of_tests(*distances))


def plain_distances(before: np.ndarray, after: np.ndarray, copies: tuple[int, int] = (1, 1)) -> np.ndarray:
    """2-Wasserstein distances (S, T) of equally many values, each value counted so many times."""
    apart = np.sort(before.repeat(copies[0], axis=0), axis=0)[:, None] - np.sort(after.repeat(copies[1], axis=0), axis=0)
    return np.sqrt((apart**2).mean(axis=0))


def test_measures_of_other_seeds_equal_loops():
    left_out, effects, truth = retrained()
    # Three retrainings of each subset stand against five members.
    truth = Retrained(truth.whole, truth.losses[:3] + np.random.default_rng(3).normal(size=truth.losses[:3].shape), False)
    predicted = predicted_rises(left_out, effects)
    found = lds_columns(predicted, truth)
    pairs = [(r, q) for r in range(RUNS) for q in range(3)]
    assert found["lds_run"] == pytest.approx(np.mean([spearman_of_tests(predicted[r], truth.losses[q]) for r, q in pairs]))
    assert found["lds_means"] == pytest.approx(spearman_of_tests(predicted.mean(axis=0), truth.losses.mean(axis=0)))
    assert np.isnan(found["lds_other_run"]) and found["lds_run_low"] < found["lds_run"] < found["lds_run_high"]
    change = truth.losses.mean(axis=0) - truth.whole.mean(axis=0)
    scale = np.abs(change).mean() / np.abs(predicted.mean(axis=0)).mean()
    assert found["scale"] == pytest.approx(scale)
    moved = plain_distances(truth.whole, truth.whole[:, None] + scale * predicted)
    assert found["lds_wasserstein"] == pytest.approx(
        spearman_of_tests(moved, plain_distances(truth.whole, truth.losses, (3, 5)))
    )


def test_intervals_leave_out_members_and_test_examples():
    left_out, effects, truth = retrained()
    scores = effects + np.random.default_rng(2).normal(size=effects.shape)
    predicted = predicted_rises(left_out, scores)
    found = lds_columns(predicted, truth)

    def mean_lds(runs: list[int], tests: list[int]) -> float:
        change = (truth.losses - truth.whole[:, None])[runs].mean(axis=0)
        return spearman_of_tests(predicted[runs].mean(axis=0)[:, tests], change[:, tests])

    runs, tests = list(range(RUNS)), list(range(TESTS))
    without = [[mean_lds([r for r in runs if r != out], tests) for out in runs]]
    without += [[mean_lds(runs, [t for t in tests if t != out]) for out in tests]]
    variance = sum((len(one) - 1) * np.var(one) for one in without)
    half = stats.t.ppf(0.975, RUNS - 1) * np.sqrt(variance)
    assert found["lds_means_low"] == pytest.approx(found["lds_means"] - half)
    assert found["lds_means_high"] == pytest.approx(min(found["lds_means"] + half, 1))


def test_intervals_with_other_seeds_leave_out_retrainings_too():
    left_out, effects, truth = retrained()
    truth = Retrained(truth.whole, truth.losses[:4] + np.random.default_rng(3).normal(size=truth.losses[:4].shape), False)
    predicted = predicted_rises(left_out, effects)
    found = lds_columns(predicted, truth)

    def mean_lds(runs: list[int], models: list[int], tests: list[int]) -> float:
        return spearman_of_tests(predicted[runs].mean(axis=0)[:, tests], truth.losses[models].mean(axis=0)[:, tests])

    groups = [list(range(count)) for count in (RUNS, 4, TESTS)]
    without = []
    for place, group in enumerate(groups):
        fewer = [[*groups[:place], [each for each in group if each != out], *groups[place + 1 :]] for out in group]
        without.append([mean_lds(*chosen) for chosen in fewer])
    half = stats.t.ppf(0.975, 3) * np.sqrt(sum((len(one) - 1) * np.var(one) for one in without))
    assert found["lds_means_low"] == pytest.approx(found["lds_means"] - half)


def test_scores_that_do_not_vary_predict_nothing_and_a_single_member_has_no_interval():
    left_out, effects, truth = retrained()
    found = lds_columns(predicted_rises(left_out, np.ones_like(effects)), truth)
    assert found["lds_run"] == found["lds_means"] == 0
    one = Retrained(truth.whole[:1], truth.losses[:1], True)
    found = lds_columns(predicted_rises(left_out, effects[:1]), one)
    assert found["lds_run"] == pytest.approx(1) and np.isnan(found["lds_means_low"]) and np.isnan(found["lds_other_run"])
    two = Retrained(truth.whole[:2], truth.losses[:2], True)
    found = lds_columns(predicted_rises(left_out, effects[:2]), two)
    expected = [spearman_of_tests(two.rises[r], two.rises[1 - r]) for r in range(2)]
    assert found["lds_other_run"] == pytest.approx(np.mean(expected)) and np.isnan(found["lds_other_run_low"])


def test_retrainings_are_judged_by_what_they_say_of_each_other():
    _, _, truth = retrained()
    found = columns_of_retrainings(truth)
    rises = truth.rises
    pairs = [(r, q) for r in range(RUNS) for q in range(RUNS) if r != q]
    expected = np.mean([spearman_of_tests(rises[r], rises[q]) for r, q in pairs])
    assert found["lds_other_run"] == pytest.approx(expected) and np.isnan(found["lds_run"])
    halves = [truth.losses[:2], truth.losses[2:4]]
    assert found["lds_means"] == pytest.approx(spearman_of_tests(*(half.mean(axis=0) for half in halves)))
    expected = spearman_of_tests(*(half.var(axis=0, ddof=1) for half in halves))
    assert found["lds_variance"] == pytest.approx(expected)
    others = columns_of_retrainings(Retrained(truth.whole, truth.losses, False))
    assert np.isnan(others["lds_other_run"])
    pairs = np.mean([spearman_of_tests(truth.losses[r], truth.losses[q]) for r, q in pairs])
    assert others["lds_run"] == pytest.approx(pairs)
