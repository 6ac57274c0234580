"""Tests of whether a pair's expected score is 0, from the scores of n seeds: the t-test, and what is said to be more robust.

Every test takes a sample (n, pairs) and gives two-sided p-values (pairs,), by which they can be compared on the same pairs:

- `t_test`: Student's one-sample t-test.
- `signed_rank`: Wilcoxon's signed ranks, exact for up to 50 seeds. It tests whether scores lie symmetrically about 0, which is
  another question than their mean where they are skewed. The smallest p of n seeds is 2 / 2^n: with five seeds 0.0625.
- `sign_flip`: the permutation test of the mean, whose signs are flipped at random (all 2^n ways where they are few). It assumes
  symmetry as well, and has the same smallest p.
- `bayesian_bootstrap`: the posterior of the mean where nothing is assumed of the scores' distribution (Rubin, The Bayesian
  bootstrap, Annals of Statistics 1981): weights of the seeds are uniform on the simplex. Twice the probability that the mean
  has the other sign than it seems stands for p. It knows of no score beyond those seen and is too certain for few seeds.

The posterior of the mean of normal scores under Jeffreys' prior is Student's t around their mean, so that the probability that
the mean has the sign it seems to have is 1 - p / 2 of the t-test: a Bayesian reading of the same number.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats

from tda.statistics.pair_statistics import mean_and_std, signal_to_noise, t_test

_RESAMPLES = 9999
_BATCH = 2**24
"""Numbers of a resampled block."""


def by_t_test(sample: np.ndarray) -> np.ndarray:
    """Student's t-test; a pair without spread has 1 where its mean is 0, else 0."""
    return t_test(signal_to_noise(*mean_and_std(sample)), len(sample))


def by_signed_rank(sample: np.ndarray) -> np.ndarray:
    """Wilcoxon's signed-rank test; 1 for a pair of zeros. Exact without ties and zeros, where there are up to 50 seeds."""
    found = np.ones(sample.shape[1])
    told = (sample != 0).any(axis=0)
    if told.any():
        found[told] = stats.wilcoxon(sample[:, told], axis=0).pvalue
    return found


def by_sign_flip(sample: np.ndarray) -> np.ndarray:
    """The sign-flip permutation test of the mean: exact where there are at most 9,999 ways to flip, else by 9,999 draws."""
    batch = max(1, _BATCH // max(sample.size, 1))
    found = stats.permutation_test(
        (sample,),
        lambda values, axis: values.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=batch,
        axis=0,
        rng=np.random.default_rng(0),
    )
    return found.pvalue


def by_bayesian_bootstrap(sample: np.ndarray) -> np.ndarray:
    """Twice the posterior probability, by 9,999 draws, that the mean has the other sign than it seems; at most 1."""
    weights = np.random.default_rng(0).dirichlet(np.ones(len(sample)), size=_RESAMPLES)
    found = np.empty(sample.shape[1])
    block = max(1, _BATCH // _RESAMPLES)
    for first in range(0, sample.shape[1], block):
        means = weights @ sample[:, first : first + block]
        # Half of the draws at 0 itself count for either sign.
        above = ((means > 0).sum(axis=0) + 0.5 * (means == 0).sum(axis=0)) / _RESAMPLES
        found[first : first + block] = np.minimum(1, 2 * np.minimum(above, 1 - above))
    return found


TESTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "t_test": by_t_test,
    "signed_rank": by_signed_rank,
    "sign_flip": by_sign_flip,
    "bayesian_bootstrap": by_bayesian_bootstrap,
}
