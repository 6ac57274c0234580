"""Constants and arguments of the step that tells scores from noise."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfExperiment


@dataclass(kw_only=True)
class ComputePvalues(OfExperiment):
    """Which experiment's scores are tested."""

    num_seeds: int | None = None
    """Only so many of random_seeds.pt, the first ones; without it all that are trained, of which none may lack its scores."""
    force: bool = False
    """Accepted as by every script; this one always writes everything anew."""
