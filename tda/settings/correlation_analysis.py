"""Constants and arguments of the step that compares the methods."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfExperiment


@dataclass(kw_only=True)
class CorrelationAnalysis(OfExperiment):
    """Which experiment's methods are compared, over how many checkpoints."""

    num_seeds: int | None = None
    """Only so many of random_seeds.pt, the first ones; without it all that are trained, of which none may lack its scores."""
    device: str = "auto"
    """Accepted as by every script; this one computes on the CPU."""
    force: bool = False
    """Accepted as by every script; this one always writes everything anew."""
    num_checkpoints: int
    """A seed's score is the mean over this many of its last checkpoints, or over all where fewer are stored."""
