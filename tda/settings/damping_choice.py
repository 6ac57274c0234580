"""Constants and arguments of the step that chooses a method's damping."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfExperiment


@dataclass(kw_only=True)
class DampingChoice(OfExperiment):
    """Which values of which setting are compared, on which retrainings."""

    force: bool = False
    """Accepted as by every script; this one always writes everything anew."""
    method: str
    """Method whose setting is chosen."""
    setting: str
    """The number: ridge_factor of kernel_trajectory, ridge of trak, damping of if or if_trajectory."""
    candidates: tuple[float, ...]
    """Values to compare, separated by commas."""
    alpha: float
    """Share of the training examples in a subset, as retrained."""
    num_subsets: int
    """Number of fitting subsets."""
    num_retrainings: int
    """Retrainings of each fitting subset."""
    seed_id: int
    """Seed of random_seeds.pt whose member is scored, counted from 0."""
