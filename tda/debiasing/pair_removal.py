"""What leaving training pairs out does to a target pair: train again, and see how far its image and text move apart.

Park et al. (TRAK, 2023, section 5.1) remove the training pairs that attribution names for a target pair of image and caption,
and report how far the cosine similarity of the two falls, beside the fall by removing what looks alike to the model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tda.data.kinds import shown_inputs
from tda.debiasing.pair_retrieval import Nearness, as_nearness, measured_nearness
from tda.debiasing.removal import RANDOM, random_ranking
from tda.statistics.intervals import over_examples_and_seeds
from tda.statistics.target_scores import TargetScores
from tda.training.retrained_logits import LogitStore
from tda.training.study import Study

BASELINES = (RANDOM, "image_similarity", "caption_similarity", "repsim")
"""What a method's falls are compared with where it was left out too."""


@dataclass(frozen=True)
class Falls:
    """How far target pairs fall where pairs are left out, each (T, S) for targets and seeds.

    cosine: of image and text; reciprocal_rank: the mean of both directions; positive where they are further apart, or harder to
    find. before, after: ranks, the mean of both directions. of_others: the mean fall of the cosine of all other test pairs.
    """

    cosine: np.ndarray
    reciprocal_rank: np.ndarray
    before: np.ndarray
    after: np.ndarray
    of_others: np.ndarray


def found_targets(nearness: Nearness, rank: int, most: int) -> np.ndarray:
    """The first `most` pairs, in the test subset's order, that at least half of the seeds find at `rank` or better, (T,) int64.

    By the worse of both directions; nearness: of members (S, n).
    """
    worse = np.maximum(nearness.text_rank, nearness.image_rank)
    return np.flatnonzero((worse <= rank).mean(axis=0) >= 0.5)[:most]


def removals(named: Sequence[TargetScores], num_train: int, targets: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Positions (T, count) of what is left out for each target: at random, and the highest of each method."""
    at_random = random_ranking(num_train, int(targets.max()) + 1)[:count, targets].T
    highest = {each.method: np.argsort(-each.scores, axis=0, kind="stable")[:count].T for each in named}
    return {RANDOM: at_random} | highest


@dataclass(frozen=True)
class Retrained:
    """Trainings of a study on a part of its pairs, by each of the seeds, and how near they put the test pairs."""

    study: Study
    seeds: Sequence[int]
    force: bool

    def without(self, removed: Sequence[Sequence[int]]) -> Nearness:
        """Nearness (R, S, n) after trainings without each of R sets of pairs; those that are missing are done."""
        store = LogitStore(self.study, self.study.test, "nearness", measured_nearness)
        return as_nearness(store.said_without(removed, self.seeds, "run_pair_removal.py again", self.force))

    def falls(self, targets: np.ndarray, removed: np.ndarray, base: Nearness) -> Falls:
        """What leaving out pairs (T, count), a row a target, does to the targets; base: nearness (1, S, n) of all pairs."""
        after = self.without(removed)
        rows = np.arange(len(targets))

        def both(values: Callable[[Nearness], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
            """Before and after, (T, S), each target after its own removal."""
            return values(base)[0][:, targets].T, values(after)[rows, :, targets]

        fell = base.cosine - after.cosine
        own = fell[rows, :, targets]
        others = (fell.sum(axis=2) - own) / max(1, fell.shape[2] - 1)
        reciprocal = np.subtract(*both(lambda each: each.reciprocal_rank))
        return Falls(own, reciprocal, *both(lambda each: (each.text_rank + each.image_rank) / 2), others)


def removal_table(falls: dict[str, Falls], removed: int) -> pd.DataFrame:
    """A row a method: falls of the targets' cosine and reciprocal rank, and how much further than by each baseline.

    Intervals are the bootstrap's over targets and seeds, of differences over the same targets and seeds.
    """
    rows = []
    for method, fell in falls.items():
        row = {"method": method, "removed": removed, "targets": len(fell.cosine), "seeds": fell.cosine.shape[1]}
        row |= over_examples_and_seeds(fell.cosine).columns("cosine_fall", "cosine_fall_low", "cosine_fall_high")
        rank = over_examples_and_seeds(fell.reciprocal_rank)
        row |= rank.columns("reciprocal_rank_fall", "reciprocal_rank_fall_low", "reciprocal_rank_fall_high")
        row |= {"median_rank_before": np.median(fell.before), "median_rank_after": np.median(fell.after)}
        row["cosine_fall_of_others"] = fell.of_others.mean()
        for name in BASELINES:
            if name in falls and name != method:
                for what, values in (("", "cosine"), ("_in_rank", "reciprocal_rank")):
                    difference = over_examples_and_seeds(getattr(fell, values) - getattr(falls[name], values))
                    key = f"more_than_{name}{what}"
                    row |= difference.columns(key, f"{key}_low", f"{key}_high")
        rows.append(row)
    return pd.DataFrame(rows)


def pair_rows(study: Study, targets: np.ndarray, named: TargetScores, count: int) -> pd.DataFrame:
    """The first `count` training pairs that a method names for each target, the largest score first, with their texts."""
    rows = []
    order = np.argsort(-named.scores, axis=0, kind="stable")[:count]
    for number, target in enumerate(targets):
        for place, pair in enumerate(order[:, number], start=1):
            rows.append(
                {
                    "test_idx": int(study.test.indices[target]),
                    "method": named.method,
                    "place": place,
                    "train_idx": int(study.train.indices[pair]),
                    "score": named.scores[pair, number],
                    "mean": named.mean[pair, number],
                    "std": named.std[pair, number],
                    "q": named.q[pair, number],
                    "caption": shown_inputs(study.task.kind, study.train.inputs, int(pair))[1],
                    "caption_of_target": shown_inputs(study.task.kind, study.test.inputs, int(target))[1],
                }
            )
    return pd.DataFrame(rows)
