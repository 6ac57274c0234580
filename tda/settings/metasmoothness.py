"""Constants and arguments of the step that measures how smooth a training is."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfSeeds


@dataclass(kw_only=True)
class Metasmoothness(OfSeeds):
    """Whose training is probed, along which directions, beside which variants."""

    variants: tuple[str, ...]
    """Variants of the same experiment to measure beside it, such as inside1e-8,inside1e-8_rate3e-4; plain is the plain one."""
    removed: tuple[int, ...]
    """How many random training examples lose their weight, such as 1,2,8: a row of the table each."""
    weight_step: float
    """Besides, every example's weight moves by a standard normal number times this, and times twice this."""
    num_directions: int
    """Random directions of each kind, the same for every seed and variant."""
