"""How often tests err and how often they find an effect, by simulation, on noise of light tails, heavy tails and none alike."""

from collections.abc import Callable, Iterator

import numpy as np

from tda.statistics.pair_statistics import SIGNIFICANCE_LEVEL
from tda.statistics.seed_tests import TESTS

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def _contaminated(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A tenth of the scores has ten times the spread; standard deviation 1."""
    wide = generator.random(shape) < 0.1
    return generator.normal(size=shape) * np.where(wide, 10.0, 1.0) / np.sqrt(0.9 + 0.1 * 100)


def _skewed(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Log-normal scores about their mean: mostly a little below 0, seldom far above; standard deviation 1."""
    return (generator.lognormal(size=shape) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)


LAWS: dict[str, Draw] = {
    "normal": lambda generator, shape: generator.normal(size=shape),
    "student_3": lambda generator, shape: generator.standard_t(3, size=shape) / np.sqrt(3),
    "contaminated": _contaminated,
    "cauchy": lambda generator, shape: generator.standard_cauchy(size=shape),
    "skewed": _skewed,
}
"""Noise of mean 0 and standard deviation 1; cauchy has neither, but lies symmetrically about 0."""
EFFECTS = (0.0, 0.5, 1.0)
"""Means over standard deviation: at 0 the share that is called reliable is the type-I error, else the power."""


def error_rates(counts: tuple[int, ...], simulations: int) -> Iterator[dict[str, str | int | float]]:
    """Rows of law, number of seeds, effect and test: the share of simulated pairs whose p is below the level."""
    for law, draw in LAWS.items():
        for count in counts:
            noise = draw(np.random.default_rng(count), (count, simulations))
            for effect in EFFECTS:
                for test, p_values in TESTS.items():
                    called = (p_values(noise + effect) < SIGNIFICANCE_LEVEL).mean()
                    yield {"law": law, "seeds": count, "effect": effect, "test": test, "called_reliable": called}
