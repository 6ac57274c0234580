"""Constants and arguments of the step that tells scores from noise."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfScores


@dataclass(kw_only=True)
class ComputePvalues(OfScores):
    """Which experiment's scores are tested."""

    force: bool = False
    """Accepted as by every script; this one always writes everything anew."""
