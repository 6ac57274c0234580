"""Constants and arguments of the step that looks for wrong labels."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfSeeds


@dataclass(kw_only=True)
class MislabelDetection(OfSeeds):
    """How many labels are changed, and which methods look for them."""

    force: bool = False
    """Accepted as by every script; this one always computes everything anew."""
    methods: tuple[str, ...]
    """Methods to judge, which must need no other file than a member's checkpoint."""
    share: float
    """Share of the training labels that are changed to another class."""
