"""How far one method's scores are those of another, as random variables over the runs of an ensemble.

The other is leave-one-out where a step asks. Intervals are the jackknife's over seeds and over test examples: each seed in
turn is left out and everything that is made of seeds is made anew; each test example in turn is left out, its pairs missing
from a correlation, a count or a mean, while the ranks, verdicts and the scale stay those of all.
"""

from dataclasses import dataclass

import numpy as np

from tda.statistics.described_runs import STATISTICS, Described
from tda.statistics.intervals import Estimate, jackknifed, means_without_each

_VERDICTS = 3


@dataclass(frozen=True)
class CrossRuns:
    """Correlations of every run of one method with every run of another: (R, R), and without each test example (T, R, R)."""

    whole: np.ndarray
    without_test: np.ndarray

    def same_run(self) -> Estimate:
        """Mean over the runs of the correlation with the other method's score of the same run."""
        each = np.diagonal(self.whole)
        return _correlation(each.mean(), means_without_each(each), np.trace(self.without_test, axis1=1, axis2=2) / len(each))

    def other_run(self) -> Estimate:
        """Mean over all ordered pairs of different runs; without a seed, over those that it has no part in.

        NaN for a single run, and without an interval for two.
        """
        count = len(self.whole)
        if count < 2:
            return Estimate(np.nan, np.nan, np.nan)
        between = self.whole * ~np.eye(count, dtype=bool)
        fewer = between.sum() - between.sum(axis=0) - between.sum(axis=1)
        without_test = self.without_test.sum(axis=(1, 2)) - np.trace(self.without_test, axis1=1, axis2=2)
        pairs = count * (count - 1)
        without_seed = fewer / ((count - 1) * (count - 2)) if count > 2 else np.full(count, np.nan)
        return _correlation(between.sum() / pairs, without_seed, without_test / pairs)


def across_pairs(left: np.ndarray, right: np.ndarray) -> CrossRuns:
    """Correlations over all pairs of runs (R, T, n) of two methods, of mean 0 and length 1: Pearson's, or Spearman's of ranks.

    NaN for a run that does not vary, which is all 0.
    """
    by_test = [np.ascontiguousarray(array.swapaxes(0, 1)) for array in (left, right)]
    sums = [array.sum(axis=2) for array in by_test]
    squares = [np.einsum("trn,trn->tr", array, array) for array in by_test]
    products = by_test[0] @ by_test[1].swapaxes(1, 2)
    of_tests = (*sums, *squares, products)
    totals = [part.sum(axis=0) for part in of_tests]
    fewer = [total - part for total, part in zip(totals, of_tests, strict=True)]
    pairs = left.shape[1] * left.shape[2]
    return CrossRuns(_from_sums(*totals, pairs), _from_sums(*fewer, pairs - left.shape[2]))


def _from_sums(
    left: np.ndarray, right: np.ndarray, left_square: np.ndarray, right_square: np.ndarray, product: np.ndarray, count: int
) -> np.ndarray:
    """Correlations (..., R, R) from sums (..., R), sums of squares (..., R) and of products (..., R, R) over `count` pairs."""
    shared = product - left[..., :, None] * right[..., None, :] / count
    spread = [np.maximum(square - total**2 / count, 0) for total, square in ((left, left_square), (right, right_square))]
    return _ratio(shared, np.sqrt(spread[0][..., :, None] * spread[1][..., None, :]))


def across_tests(left: np.ndarray, right: np.ndarray) -> CrossRuns:
    """Mean over test examples of the correlation over a test example's pairs, of arrays (R, T, n) with mean 0 and length 1."""
    each = left.swapaxes(0, 1) @ right.transpose(1, 2, 0)
    return CrossRuns(each.mean(axis=0), (each.sum(axis=0) - each) / (len(each) - 1))


def agreement(method: Described, reference: Described) -> dict[str, float]:
    """The columns of agreement_with_loo.csv; each measure with the ends of its interval as <measure>_low and <measure>_high.

    spearman_seed, pearson_seed: correlation over all pairs with the reference's scores of the same run, mean over seeds;
    spearman_seed_test: over a test example's pairs, mean over seeds and test examples. spearman_mean, pearson_mean,
    spearman_mean_test: the same of means over seeds. spearman_std, pearson_std: of the deviations over seeds.
    spearman_p_value: of the t-test's p-values. verdict_kappa: Cohen's kappa of helpful, harmful or not told from noise
    (q below the level), over pairs, and share_same_verdict. wasserstein: the distance of the two distributions over seeds,
    after matching scale, as a multiple of the reference's mean size: 0 equal, 1 what scores of 0 have; scale: what the
    method's scores were multiplied by. A correlation with a constant is NaN.
    """
    tests = method.num_tests
    measures = {
        "spearman_seed": across_pairs(method.ranked, reference.ranked).same_run(),
        "pearson_seed": across_pairs(method.scaled, reference.scaled).same_run(),
        "spearman_seed_test": across_tests(method.ranked_by_test, reference.ranked_by_test).same_run(),
    }
    for name in STATISTICS:
        measures[f"spearman_{name}"] = _over_seeds(method.ranked_statistics[name], reference.ranked_statistics[name], tests)
    for name, scaled in method.scaled_statistics.items():
        measures[f"pearson_{name}"] = _over_seeds(scaled, reference.scaled_statistics[name], tests)
    measures["spearman_mean_test"] = _means_by_test(method.ranked_mean_by_test, reference.ranked_mean_by_test)
    measures["verdict_kappa"] = kappa(method.verdicts, reference.verdicts, tests)
    measures["wasserstein"], scale = wasserstein(method.values, reference.values)
    columns: dict[str, float] = {}
    for name, estimate in measures.items():
        columns |= estimate.columns(name, f"{name}_low", f"{name}_high")
    ours, theirs = method.verdicts[0], reference.verdicts[0]
    return columns | {
        "share_same_verdict": (ours == theirs).mean(),
        "share_reliable": (ours != 0).mean(),
        "share_reliable_reference": (theirs != 0).mean(),
        "scale": scale,
    }


def agreement_between_runs(method: Described, reference: Described, itself: bool) -> dict[str, float]:
    """The columns of agreement_between_runs.csv: a run's scores against the reference's of the same run, and of other runs.

    itself: whether both are the same method, whose same run tells nothing and is NaN. mean_of_halves, std_of_halves,
    p_value_of_halves: Spearman's correlation of a statistic over one half of the seeds with the reference's over the other
    half, mean over splits and both ways; NaN where a half has fewer than three seeds.
    """
    crossed = {
        "spearman": across_pairs(method.ranked, reference.ranked),
        "pearson": across_pairs(method.scaled, reference.scaled),
        "spearman_test": across_tests(method.ranked_by_test, reference.ranked_by_test),
    }
    columns: dict[str, float] = {}
    for name, runs in crossed.items():
        same = Estimate(np.nan, np.nan, np.nan) if itself else runs.same_run()
        for place, estimate in (("same_run", same), ("other_run", runs.other_run())):
            columns |= estimate.columns(f"{name}_{place}", f"{name}_{place}_low", f"{name}_{place}_high")
    for name in STATISTICS:
        columns[f"{name}_of_halves"] = _of_halves(method, reference, name)
    return columns


def kappa(left: np.ndarray, right: np.ndarray, num_tests: int) -> Estimate:
    """Cohen's kappa of two verdicts (R + 1, P) in {-1, 0, 1}, over all seeds and without each; NaN where both are constant."""

    def counts(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """How often each two verdicts meet in each test example: (T, 3, 3)."""
        cells = _VERDICTS * (ours + 1).astype(np.int64) + theirs + 1
        places = np.arange(num_tests).repeat(cells.size // num_tests) * _VERDICTS**2 + cells
        return np.bincount(places, minlength=num_tests * _VERDICTS**2).reshape(num_tests, _VERDICTS, _VERDICTS)

    of_tests = counts(left[0], right[0])
    total = of_tests.sum(axis=0)
    without_seed = [_kappa(counts(ours, theirs).sum(axis=0)) for ours, theirs in zip(left[1:], right[1:], strict=True)]
    return _correlation(_kappa(total), np.array(without_seed), _kappa(total - of_tests))


def wasserstein(left: np.ndarray, right: np.ndarray) -> tuple[Estimate, float]:
    """Mean over pairs of the Wasserstein-1 distance between the runs' scores (R, T, n), as a multiple of the mean |right|.

    The left ones are multiplied by mean |right| / mean |left| first, which is returned too. For equally many values the
    distance is the mean difference of both in ascending order.
    """
    pairs = [np.ascontiguousarray(np.moveaxis(array, 0, 2)) for array in (left, right)]
    by_test, size, scale = _distances(*pairs)
    value = by_test.sum() / size.sum() if size.sum() else np.nan
    without_test = _ratio(by_test.sum() - by_test, size.sum() - size)
    without_seed = []
    for seed in range(len(left)):
        fewer, sizes, _ = _distances(*(np.delete(array, seed, axis=2) for array in pairs))
        without_seed.append(fewer.sum() / sizes.sum() if sizes.sum() else np.nan)
    return jackknifed(value, np.array(without_seed), without_test, low=0.0), scale


def _distances(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """For each test example the sums of distances and of the right sizes, of runs (T, n, R); and the left one's scale."""
    sizes = np.abs(right).mean(axis=2).sum(axis=1)
    own = np.abs(left).mean()
    scale = float(np.abs(right).mean() / own) if own else 1.0
    apart = np.abs(np.sort(left, axis=2) * scale - np.sort(right, axis=2))
    return apart.mean(axis=2).sum(axis=1), sizes, scale


def _over_seeds(left: np.ndarray, right: np.ndarray, num_tests: int) -> Estimate:
    """Correlation over pairs (R + 1, P), of mean 0 and length 1, of what is made of all seeds, and without each."""
    whole = across_pairs(*(array[:1].reshape(1, num_tests, -1) for array in (left, right)))
    return _correlation(whole.whole[0, 0], np.einsum("rp,rp->r", left[1:], right[1:]), whole.without_test[:, 0, 0])


def _means_by_test(left: np.ndarray, right: np.ndarray) -> Estimate:
    each = (left * right).sum(axis=2)
    return _correlation(each[0].mean(), each[1:].mean(axis=1), means_without_each(each[0]))


def _of_halves(method: Described, reference: Described, name: str) -> float:
    if method.halves is None or reference.halves is None:
        return np.nan
    left, right = method.halves[name], reference.halves[name]
    # Both halves of a split stand beside each other: the other half is the neighbour.
    neighbours = np.arange(len(left)) ^ 1
    varies = left.any(axis=1) & right[neighbours].any(axis=1)
    return float(np.mean(np.einsum("hp,hp->h", left, right[neighbours]))) if varies.all() else np.nan


def _kappa(counts: np.ndarray) -> np.ndarray:
    total = counts.sum(axis=(-2, -1))
    same = np.trace(counts, axis1=-2, axis2=-1) / total
    by_chance = (counts.sum(axis=-1) * counts.sum(axis=-2)).sum(axis=-1) / total**2
    return _ratio(same - by_chance, 1 - by_chance)


def _correlation(value: float, without_seed: np.ndarray, without_test: np.ndarray) -> Estimate:
    return jackknifed(value, without_seed, without_test, low=-1.0, high=1.0)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
