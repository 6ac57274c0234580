"""Constants and arguments of the step that judges methods by the linear datamodeling score."""

from dataclasses import dataclass
from typing import ClassVar

from tda.settings.of_experiment import OfScores


@dataclass(kw_only=True)
class LdsEvaluation(OfScores):
    """By which retrainings the methods are judged."""

    alternatives: ClassVar = (*OfScores.alternatives, (("alpha",), ("left_out",)))

    device: str = "auto"
    """Accepted as by every script; this one computes on the CPU."""
    force: bool = False
    """Accepted as by every script; this one always writes everything anew."""
    alpha: float
    """Share of the training examples in a subset, as retrained."""
    left_out: float | None = None
    """Share of the training examples that a subset lacks, as retrained, instead of --alpha: rows of lds_left_out.csv alone."""
    same_run: bool = False
    """Judge by retrainings of the members' own runs: rows of lds_left_out.csv alone."""
    num_subsets: int
    """Number of subsets that judge."""
    num_retrainings: int
    """Retrainings of each subset."""
    num_checkpoints: int
    """A seed's score is the mean over this many of its last checkpoints, or over all where fewer are stored."""
