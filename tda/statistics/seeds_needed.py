"""How many seeds a verdict needs: verdicts of a part of the seeds against those of all."""

import numpy as np

from tda.statistics.intervals import percentiles
from tda.statistics.pair_statistics import SIGNIFICANCE_LEVEL, benjamini_hochberg
from tda.statistics.seed_tests import TESTS

VERDICTS = ("p", "q")
"""A pair is called reliable where p, or Benjamini and Hochberg's q over all pairs, is below the significance level."""


def called(p_value: np.ndarray, verdict: str) -> np.ndarray:
    """Which pairs a test calls reliable, bool."""
    return (benjamini_hochberg(p_value) if verdict == "q" else p_value) < SIGNIFICANCE_LEVEL


def parts(num_seeds: int, count: int, draws: int) -> list[np.ndarray]:
    """Positions of `count` of the seeds, drawn without replacement, `draws` times; all of them once."""
    if count == num_seeds:
        return [np.arange(num_seeds)]
    generator = np.random.default_rng(count)
    return [generator.choice(num_seeds, size=count, replace=False) for _ in range(draws)]


def verdict_rows(sample: np.ndarray, counts: tuple[int, ...], draws: int) -> list[dict[str, str | int | float]]:
    """Rows for each test, number of seeds and verdict, of a sample (seeds, pairs).

    same: the share of pairs with the same verdict as the t-test on all seeds. found: of the pairs that this calls reliable, the
    share that is called so; false: of the others. wrong_sign: of the called ones, the share whose mean has another sign than
    that over all seeds. Means over the draws, with the percentiles of `found`; NaN where there is nothing to take a share of.
    The parts share seeds with the whole, so that large parts agree with it by more than their size.
    """
    whole, mean = TESTS["t_test"](sample), sample.mean(axis=0)
    rows = []
    for count in counts:
        drawn = [sample[chosen] for chosen in parts(len(sample), count, draws)]
        for name, test in TESTS.items():
            tested = [test(part) for part in drawn]
            for verdict in VERDICTS:
                truth = called(whole, verdict)
                told = [
                    _compared(called(p, verdict), truth, part.mean(axis=0), mean) for p, part in zip(tested, drawn, strict=True)
                ]
                row = {"test": name, "seeds": count, "verdict": verdict, "draws": len(drawn), "reliable_by_all": truth.mean()}
                rows.append(row | _averaged(told))
    return rows


def _compared(found: np.ndarray, truth: np.ndarray, part: np.ndarray, whole: np.ndarray) -> dict[str, float]:
    return {
        "called_reliable": found.mean(),
        "same": (found == truth).mean(),
        "found": _share(found, truth),
        "false": _share(found, ~truth),
        "wrong_sign": _share(np.sign(part) != np.sign(whole), found),
    }


def _share(of: np.ndarray, among: np.ndarray) -> float:
    return float(of[among].mean()) if among.any() else np.nan


def _averaged(told: list[dict[str, float]]) -> dict[str, float]:
    averaged = {}
    for key in told[0]:
        values = np.array([each[key] for each in told])
        known = values[np.isfinite(values)]
        averaged[key] = known.mean() if len(known) else np.nan
        if key == "found":
            spread = percentiles(averaged[key], known) if len(known) > 1 else None
            averaged |= {"found_low": spread.low if spread else np.nan, "found_high": spread.high if spread else np.nan}
    return averaged
