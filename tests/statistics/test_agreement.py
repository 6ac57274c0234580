"""Agreement of two methods' distributions: closed forms, and naive loops with scipy over samples of few pairs."""

import numpy as np
import pytest
from scipy import stats

from tda.statistics.agreement import agreement, agreement_between_runs
from tda.statistics.described_runs import describe, split_runs
from tda.statistics.pair_statistics import benjamini_hochberg, mean_and_std, signal_to_noise, t_test

RUNS, TRAIN, TESTS = 6, 9, 14


def two_methods(noise: float = 1.0, runs: int = RUNS) -> tuple[np.ndarray, np.ndarray]:
    """Samples (R, n, T) that share a mean for each pair and a part of what differs between runs."""
    generator = np.random.default_rng(0)
    common = 2 * generator.normal(size=(TRAIN, TESTS)) + generator.normal(size=(runs, TRAIN, TESTS))
    return common + noise * generator.normal(size=common.shape), 1e-4 * common


def spearman(left: np.ndarray, right: np.ndarray) -> float:
    return stats.spearmanr(left.ravel(), right.ravel()).statistic


def p_values(sample: np.ndarray) -> np.ndarray:
    return t_test(signal_to_noise(*mean_and_std(sample)), len(sample))


def verdicts(sample: np.ndarray) -> np.ndarray:
    return np.sign(sample.mean(axis=0)) * (benjamini_hochberg(p_values(sample)) < 0.05)


def plain_kappa(left: np.ndarray, right: np.ndarray) -> float:
    same, chance = np.mean(left == right), sum(np.mean(left == kind) * np.mean(right == kind) for kind in (-1, 0, 1))
    return (same - chance) / (1 - chance)


def plain_wasserstein(left: np.ndarray, right: np.ndarray) -> float:
    scale = np.abs(right).mean() / np.abs(left).mean()
    pairs = np.ndindex(left.shape[1:])
    apart = [stats.wasserstein_distance(scale * left[:, i, j], right[:, i, j]) for i, j in pairs]
    return np.mean(apart) / np.abs(right).mean()


def plain_measures(left: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Every measure by a loop."""
    seeds, tests = range(len(left)), range(left.shape[2])
    spreads = [sample.std(axis=0, ddof=1) for sample in (left, right)]
    means = [sample.mean(axis=0) for sample in (left, right)]
    return {
        "spearman_seed": np.mean([spearman(left[s], right[s]) for s in seeds]),
        "pearson_seed": np.mean([stats.pearsonr(left[s].ravel(), right[s].ravel()).statistic for s in seeds]),
        "spearman_seed_test": np.mean([spearman(left[s, :, t], right[s, :, t]) for s in seeds for t in tests]),
        "spearman_mean": spearman(*means),
        "pearson_mean": stats.pearsonr(means[0].ravel(), means[1].ravel()).statistic,
        "spearman_mean_test": np.mean([spearman(means[0][:, t], means[1][:, t]) for t in tests]),
        "spearman_std": spearman(*spreads),
        "pearson_std": stats.pearsonr(spreads[0].ravel(), spreads[1].ravel()).statistic,
        "spearman_p_value": spearman(p_values(left), p_values(right)),
        "verdict_kappa": plain_kappa(verdicts(left), verdicts(right)),
        "wasserstein": plain_wasserstein(left, right),
    }


def plain_interval(value: float, *without: list[float]) -> tuple[float, float]:
    """Student's, by variances of the jackknife over each sample, written out."""
    variance = sum((len(one) - 1) / len(one) * sum((x - np.mean(one)) ** 2 for x in one) for one in without)
    half = stats.t.ppf(0.975, min(map(len, without)) - 1) * np.sqrt(variance)
    return value - half, value + half


@pytest.fixture(scope="module")
def columns() -> dict[str, float]:
    left, right = two_methods()
    return agreement(describe(left), describe(right))


def test_every_measure_equals_its_loop(columns: dict[str, float]):
    left, right = two_methods()
    for name, expected in plain_measures(left, right).items():
        assert columns[name] == pytest.approx(expected, abs=1e-12), name
    ours, theirs = verdicts(left), verdicts(right)
    assert 0.05 < columns["share_reliable"] == np.mean(ours != 0) < 0.95
    assert columns["share_reliable_reference"] == np.mean(theirs != 0)
    assert columns["share_same_verdict"] == np.mean(ours == theirs)
    assert columns["scale"] == pytest.approx(np.abs(right).mean() / np.abs(left).mean())


EXACT = ("pearson_seed", "spearman_seed_test", "spearman_mean_test", "pearson_mean", "pearson_std")


@pytest.mark.parametrize("name", EXACT)
def test_intervals_are_the_jackknife_s_over_seeds_and_test_examples(columns: dict[str, float], name: str):
    """Of measures that have no ranks over all test examples, so that leaving one out is plain."""
    left, right = two_methods()
    without_seed = [plain_measures(np.delete(left, s, 0), np.delete(right, s, 0))[name] for s in range(RUNS)]
    without_test = [plain_measures(np.delete(left, t, 2), np.delete(right, t, 2))[name] for t in range(TESTS)]
    low, high = plain_interval(columns[name], without_seed, without_test)
    assert columns[f"{name}_low"] == pytest.approx(low, abs=1e-10)
    assert columns[f"{name}_high"] == pytest.approx(min(high, 1.0), abs=1e-10)


@pytest.mark.parametrize("name", ["spearman_seed", "spearman_mean", "spearman_std", "spearman_p_value", "verdict_kappa"])
def test_seeds_are_left_out_of_all_that_is_made_of_them(columns: dict[str, float], name: str):
    """The part of the width that seeds bring alone, for measures whose ranks stay while a test example is left out."""
    left, right = two_methods()
    without_seed = [plain_measures(np.delete(left, s, 0), np.delete(right, s, 0))[name] for s in range(RUNS)]
    low, _ = plain_interval(columns[name], without_seed, [0.0] * TESTS)
    widened = (columns[name] - columns[f"{name}_low"]) / (columns[name] - low)
    assert 1 <= round(widened, 9) < 2.5


def test_a_method_equal_to_the_reference_in_any_unit_agrees_fully():
    _, reference = two_methods()
    found = agreement(describe(3e5 * reference), describe(reference))
    for name in plain_measures(reference, reference):
        assert found[name] == pytest.approx(float(name != "wasserstein"), abs=1e-9)
    assert found["scale"] == pytest.approx(1 / 3e5) and found["share_same_verdict"] == 1


def test_independent_noise_agrees_in_nothing():
    generator = np.random.default_rng(0)
    left, right = generator.normal(size=(2, 8, 30, 40))
    found = agreement(describe(left), describe(right))
    for name in plain_measures(left, right).keys() - {"wasserstein", "verdict_kappa"}:
        assert abs(found[name]) < 0.1 and found[f"{name}_low"] < 0 < found[f"{name}_high"]


def test_opposite_scores_are_opposite_and_scores_of_nothing_are_one_away():
    _, reference = two_methods()
    opposite = agreement(describe(-reference), describe(reference))
    assert [opposite[name] for name in ("spearman_seed", "pearson_mean")] == pytest.approx([-1, -1])
    assert [opposite[name] for name in ("spearman_std", "spearman_p_value")] == pytest.approx([1, 1])
    assert opposite["verdict_kappa"] < 0.1
    nothing = agreement(describe(np.zeros_like(reference)), describe(reference))
    assert nothing["wasserstein"] == pytest.approx(1)
    assert np.isnan(nothing["spearman_seed"]) and np.isnan(nothing["pearson_mean"]) and nothing["verdict_kappa"] == 0


def test_other_runs_and_halves_equal_their_loops():
    left, right = two_methods()
    found = agreement_between_runs(describe(left), describe(right), itself=False)
    others = [(s, t) for s in range(RUNS) for t in range(RUNS) if s != t]
    assert found["spearman_other_run"] == pytest.approx(np.mean([spearman(left[s], right[t]) for s, t in others]))
    by_test = [spearman(left[s, :, j], right[t, :, j]) for s, t in others for j in range(TESTS)]
    assert found["spearman_test_other_run"] == pytest.approx(np.mean(by_test))
    assert found["spearman_same_run"] == pytest.approx(plain_measures(left, right)["spearman_seed"])
    ways = [both for halves in split_runs(RUNS) for both in (halves, halves[::-1])]
    expected = [spearman(p_values(left[ours]), p_values(right[theirs])) for ours, theirs in ways]
    assert found["p_value_of_halves"] == pytest.approx(np.mean(expected))
    expected = [spearman(left[ours].mean(axis=0), right[theirs].mean(axis=0)) for ours, theirs in ways]
    assert found["mean_of_halves"] == pytest.approx(np.mean(expected))
    assert all(not set(ours) & set(theirs) for ours, theirs in split_runs(RUNS))


def test_other_run_s_interval_leaves_out_a_seed_as_row_and_column():
    left, right = two_methods()
    found = agreement_between_runs(describe(left), describe(right), itself=False)

    def others(runs: list[int], tests: list[int]) -> float:
        pairs = [(s, t) for s in runs for t in runs if s != t]
        return float(np.mean([spearman(left[s, :, j], right[t, :, j]) for s, t in pairs for j in tests]))

    runs, tests = list(range(RUNS)), list(range(TESTS))
    without_seed = [others([s for s in runs if s != out], tests) for out in runs]
    without_test = [others(runs, [j for j in tests if j != out]) for out in tests]
    low, high = plain_interval(others(runs, tests), without_seed, without_test)
    assert found["spearman_test_other_run_low"] == pytest.approx(low)
    assert found["spearman_test_other_run_high"] == pytest.approx(high)


def test_loo_is_compared_with_loo_of_other_runs_and_few_seeds_have_no_halves():
    _, reference = two_methods(runs=4)
    found = agreement_between_runs(describe(reference), describe(reference), itself=True)
    assert np.isnan(found["spearman_same_run"]) and np.isnan(found["mean_of_halves"])
    assert 0.1 < found["spearman_other_run"] < 0.9


def test_pairs_without_any_spread_are_ranked_and_told_apart():
    _, reference = two_methods()
    certain = reference.copy()
    certain[:, :3] = 2.0
    certain[:, 3] = 0.0
    found = agreement(describe(certain), describe(reference))
    expected = plain_measures(certain, reference)
    for name in ("spearman_p_value", "spearman_std", "verdict_kappa", "wasserstein"):
        assert found[name] == pytest.approx(expected[name], abs=1e-12)
