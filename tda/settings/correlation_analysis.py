"""Constants and arguments of the step that compares the methods."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfScores


@dataclass(kw_only=True)
class CorrelationAnalysis(OfScores):
    """Which experiment's methods are compared, over how many checkpoints."""

    device: str = "auto"
    """Accepted as by every script; this one computes on the CPU."""
    force: bool = False
    """Accepted as by every script; this one always writes everything anew."""
    num_checkpoints: int
    """A seed's score is the mean over this many of its last checkpoints, or over all where fewer are stored."""
