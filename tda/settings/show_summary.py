"""Constants and arguments of the step that prints a summary."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfExperiment


@dataclass(kw_only=True)
class ShowSummary(OfExperiment):
    """Which experiment is shown."""

    device: str = "auto"
    """Accepted as by every script; this one computes nothing."""
    force: bool = False
    """Accepted as by every script; this one computes nothing."""
