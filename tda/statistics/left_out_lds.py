"""Do summed scores rank what leaving subsets out does to the losses of a run, to their mean, and to their distribution?

R runs (members) have losses X_r on a test example; models trained without subset s have losses Y. A method predicts that
run r's loss rises by the sum of the left-out examples' scores, P_rs, since positive means helpful. Two estimands:

- same run: Y_rs is run r repeated, start and batches, without the examples' terms. Run r's scores answer for run r.
- other seeds: Y_rs comes from starts and batches of its own. Each member's scores answer for each retraining.

The linear datamodeling score is Spearman's correlation over subsets, for each test example, averaged over test examples; it is
0 where either does not vary. The distributional LDS (Mlodozeniec et al. 2025, Definition 1 and equation 11) ranks subsets by
how the distribution over runs changes: by variance, Var(Y) - Var(X), and by the 2-Wasserstein distance of X and Y; the method's
Y is X_r + c P_rs. Neither is free of the scores' scale, so that c is mean |mean change of the loss| / mean |mean prediction|
over all subsets and test examples, for every method; a method whose scores are in nats should have a c near 1.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tda.statistics.agreement import CrossRuns, across_tests
from tda.statistics.correlation import ranks_of_rows
from tda.statistics.intervals import Estimate, jackknifed, means_without_each

_NONE = Estimate(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Retrained:
    """Losses: whole X (R, T) of the members, losses Y (R', S, T) of the retrained; same_run: runs are repeated, R' = R."""

    whole: np.ndarray
    losses: np.ndarray
    same_run: bool

    @cached_property
    def rises(self) -> np.ndarray:
        """Rises of the loss by each retraining (R', S, T): from that of the same run, or from the members' mean loss."""
        return self.losses - (self.whole[:, None] if self.same_run else self.whole.mean(axis=0))

    @cached_property
    def ranked_rises(self) -> np.ndarray:
        """Their ranks over subsets, as _ranked."""
        return _ranked(self.rises)

    @cached_property
    def ranked_changes(self) -> dict[str, np.ndarray]:
        """Ranks over subsets (S, T) of each change of the distribution."""
        return {name: _ranked(change(self.losses, self.whole)) for name, change in CHANGES.items()}

    @cached_property
    def without_each(self) -> list["Retrained"]:
        """The same without each run in turn."""
        return [self.without(run) for run in range(len(self.whole))]

    @cached_property
    def without_each_retraining(self) -> list["Retrained"]:
        """With other seeds, the same without each retraining in turn; none of the same run, whose retrainings go with it."""
        retrainings = () if self.same_run else range(len(self.losses))
        return [Retrained(self.whole, np.delete(self.losses, out, axis=0), False) for out in retrainings]

    def without(self, run: int) -> "Retrained":
        """The same without a run: of the member, and of its repetition; of retrainings with other seeds all stay."""
        losses = np.delete(self.losses, run, axis=0) if self.same_run else self.losses
        return Retrained(np.delete(self.whole, run, axis=0), losses, self.same_run)


def predicted_rises(left_out: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Sums of the left-out examples' scores: masks (S, n) of what is left out, scores (R, n, T) -> (R, S, T) float64."""
    return left_out.astype(np.float64) @ scores


def lds_columns(predicted: np.ndarray, retrained: Retrained) -> dict[str, float]:
    """The measures of a method's predictions (R, S, T), each with the ends of its 95 % interval as <measure>_low and _high.

    lds_run: a run's prediction against the repetition of that run (same run), or a member's against each retraining (other
    seeds), averaged. lds_other_run: of the same run, against the repetitions of the other runs; NaN for other seeds.
    lds_means: means over runs against means over retrainings. lds_variance, lds_wasserstein: distributional LDS. scale: c.
    Intervals are the jackknife's over members (with other seeds: and over retrainings) and over test examples.
    """
    found = _of_runs(predicted, retrained) | _of_distributions(predicted, retrained)
    columns: dict[str, float] = {}
    for name, estimate in found.items():
        columns |= estimate.columns(name, f"{name}_low", f"{name}_high")
    return columns | {"scale": _scale(predicted, retrained)}


def columns_of_retrainings(retrained: Retrained) -> dict[str, float]:
    """The same of retrainings as predictions of each other: of other runs, and of one half of them for the other half.

    lds_run of the same run is left NaN, for a repetition predicts itself. Without intervals where halves are compared, NaN for
    fewer than two retrainings in each half.
    """
    half = len(retrained.losses) // 2
    others = _crossed(retrained.ranked_rises, retrained.ranked_rises).other_run()
    found = {"lds_run": _NONE if retrained.same_run else others, "lds_other_run": others if retrained.same_run else _NONE}
    halves = [Retrained(retrained.whole, retrained.losses[part], False) for part in (slice(half), slice(half, 2 * half))]
    for name in CHANGES:
        value = (halves[0].ranked_changes[name] * halves[1].ranked_changes[name]).sum(axis=0).mean() if half >= 2 else np.nan
        found[name] = Estimate(float(value), np.nan, np.nan)
    columns: dict[str, float] = {}
    for name, estimate in found.items():
        columns |= estimate.columns(name, f"{name}_low", f"{name}_high")
    return columns | {"scale": np.nan}


def _of_runs(predicted: np.ndarray, retrained: Retrained) -> dict[str, Estimate]:
    crossed = _crossed(_ranked(predicted), retrained.ranked_rises)
    if retrained.same_run:
        return {"lds_run": crossed.same_run(), "lds_other_run": crossed.other_run()}
    samples = [means_without_each(crossed.whole.mean(axis=axis)) for axis in (0, 1) if crossed.whole.shape[1 - axis] > 1]
    without_test = crossed.without_test.mean(axis=(1, 2))
    estimate = jackknifed(crossed.whole.mean(), *samples, without_test, low=-1.0, high=1.0)
    return {"lds_run": estimate, "lds_other_run": _NONE}


def _crossed(left: np.ndarray, right: np.ndarray) -> CrossRuns:
    """From ranks over subsets (R, S, T) and (R', S, T)."""
    return across_tests(left.swapaxes(1, 2), right.swapaxes(1, 2))


def _ranked(array: np.ndarray) -> np.ndarray:
    """Ranks over the subsets of (..., S, T), with mean 0 and length 1; 0 where nothing varies."""
    ranked = ranks_of_rows(np.ascontiguousarray(np.moveaxis(array, -2, -1)))
    centred = ranked - ranked.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.moveaxis(np.divide(centred, length, out=np.zeros_like(centred), where=length > 0), -1, -2)


def _of_distributions(predicted: np.ndarray, retrained: Retrained) -> dict[str, Estimate]:
    """For each change of the distribution, the mean over test examples of Spearman's correlation over subsets."""

    def of_tests(predicted: np.ndarray, retrained: Retrained) -> dict[str, np.ndarray]:
        moved = Retrained(retrained.whole, retrained.whole[:, None] + _scale(predicted, retrained) * predicted, True)
        pairs = ((name, moved.ranked_changes[name], retrained.ranked_changes[name]) for name in CHANGES)
        return {name: (left * right).sum(axis=0) for name, left, right in pairs}

    each = of_tests(predicted, retrained)
    if len(predicted) < 3:
        return {name: Estimate(float(values.mean()), np.nan, np.nan) for name, values in each.items()}
    without_run = [of_tests(np.delete(predicted, run, axis=0), fewer) for run, fewer in enumerate(retrained.without_each)]
    fewer_retrained = retrained.without_each_retraining if len(retrained.losses) > 2 else []
    without_retraining = [of_tests(predicted, fewer) for fewer in fewer_retrained]
    found = {}
    for name, values in each.items():
        samples = [np.array([fewer[name].mean() for fewer in one]) for one in (without_run, without_retraining) if one]
        found[name] = jackknifed(values.mean(), *samples, means_without_each(values), low=-1.0, high=1.0)
    return found


def _scale(predicted: np.ndarray, retrained: Retrained) -> float:
    size = np.abs(predicted.mean(axis=0)).mean()
    return float(np.abs(retrained.rises.mean(axis=0)).mean() / size) if size else 1.0


def _mean_rises(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    return after.mean(axis=0) - before.mean(axis=0)


def _variances(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Var(Y) - Var(X), with n - 1; 0 for a single run."""
    return (after.var(axis=0, ddof=1) - before.var(axis=0, ddof=1)) if min(len(after), len(before)) > 1 else 0.0 * after[0]


def _distances(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """2-Wasserstein distances (S, T) of the losses after (R', S, T) and before (R, T), as quantile functions' distances."""
    ends = np.unique(np.concatenate([np.arange(1, len(part) + 1) / len(part) for part in (after, before)]).round(12))
    widths = np.diff(ends, prepend=0.0)
    middles = ends - widths / 2
    above, below = (np.sort(part, axis=0)[(middles * len(part)).astype(int)] for part in (after, before))
    return np.sqrt(np.einsum("q,qst->st", widths, (above - below[:, None]) ** 2))


CHANGES = {"lds_means": _mean_rises, "lds_variance": _variances, "lds_wasserstein": _distances}
"""What a distribution's change is ranked by, each a function (losses after, losses before) -> (S, T)."""
