"""Constants and arguments of the step that asks where the spread of scores over seeds comes from."""

from collections.abc import Sequence
from dataclasses import dataclass

from tda.settings.of_experiment import OfExperiment
from tda.settings.scoring import Scoring
from tda.system.arguments import Choice


@dataclass(kw_only=True)
class VarianceComponents(OfExperiment):
    """Which runs are crossed, and by what they are scored."""

    methods: dict[str, dict]
    """Methods to score by, with commas; their settings are the arguments --<method>.<setting>. They must need no files."""
    num_starts: int
    """Initialisations: those of the first so many seeds of random_seeds.pt, 2 or more."""
    num_orders: int
    """Orders of batches, with each of which every initialisation is trained: those of the first so many seeds, 2 or more."""
    num_checkpoints: int
    """For p-values, the last checkpoints that a run's score is the mean of; shares are of one checkpoint and of all kept."""

    def choices(self, names: Sequence[str]) -> dict[str, Choice]:
        """The methods that are named, with their settings, as Scoring.choices."""
        return Scoring.choices(self, names)
