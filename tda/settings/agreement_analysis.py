"""Constants and arguments of the step that compares every method with leave-one-out as a distribution."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfScores


@dataclass(kw_only=True)
class AgreementAnalysis(OfScores):
    """Which experiment's methods are compared with leave-one-out, and what the figure shows."""

    device: str = "auto"
    """Accepted as by every script; this one computes on the CPU."""
    force: bool = False
    """Accepted as by every script; this one always writes everything anew."""
    num_checkpoints: int
    """The figure and the closing sentence are of means over this many last checkpoints; the tables have all numbers up to 5."""
