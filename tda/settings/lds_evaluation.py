"""Constants and arguments of the step that judges methods by the linear datamodeling score."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfExperiment


@dataclass(kw_only=True)
class LdsEvaluation(OfExperiment):
    """By which retrainings the methods are judged."""

    num_seeds: int | None = None
    """Only so many of random_seeds.pt, the first ones; without it all that are trained, of which none may lack its scores."""
    device: str = "auto"
    """Accepted as by every script; this one computes on the CPU."""
    force: bool = False
    """Accepted as by every script; this one always writes everything anew."""
    alpha: float
    """Share of the training examples in a subset, as retrained."""
    num_subsets: int
    """Number of subsets that judge."""
    num_retrainings: int
    """Retrainings of each subset."""
    num_checkpoints: int
    """A seed's score is the mean over this many of its last checkpoints, or over all where fewer are stored."""
