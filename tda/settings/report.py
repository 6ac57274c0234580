"""Constants and arguments of the step that makes the page which a person opens."""

from dataclasses import dataclass
from typing import ClassVar

from tda.settings.of_experiment import OfScores


@dataclass(kw_only=True)
class Report(OfScores):
    """Which experiment is shown, of how many seeds, or which two beside each other."""

    alternatives: ClassVar = (
        (("experiment",), ("model", "task", "num_per_class", "variant"), ("compare",)),
        (("num_seeds",), ("compare",)),
    )

    num_seeds: int | None = None
    """Only so many of random_seeds.pt, the first ones, as summary.csv must be too; without it as many as summary.csv."""
    compare: tuple[str, str] | None = None
    """Names of two experiments that are shown beside each other instead, such as cnn_mnist3_10pc cnn_mnist3_50pc."""
    force: bool = False
    """Accepted as by every script; this one always makes the page anew."""
