"""Constants and arguments of the step that scores an ensemble by registered methods."""

from collections.abc import Sequence
from dataclasses import dataclass

from tda.settings.of_experiment import OfSeeds
from tda.system.arguments import Choice


@dataclass(kw_only=True)
class Scoring(OfSeeds):
    """Which members to score, by what."""

    methods: dict[str, dict]
    """Methods to score by, with commas, or all of those that can be; their settings are the arguments --<method>.<setting>."""

    memory_budget: float | None = None
    """GiB that kernels, curvature and projected gradients may take of each member; more goes to disk. Without it: all."""

    def choices(self, names: Sequence[str]) -> dict[str, Choice]:
        """The methods that are named, with their settings; `all` stands for those that it may bring.

        Raises UserError for unknown names, and for files of the user's own that cannot be read.
        """
        # Only here, so that the other scripts do not read the methods' files.
        from tda.methods.catalogue import chosen_entries

        chosen = chosen_entries(names)
        return {name: Choice(f"{name}, {entry.title}", entry.documentation, entry.settings) for name, entry in chosen.items()}
