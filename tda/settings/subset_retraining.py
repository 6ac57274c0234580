"""Constants and arguments of the step that retrains on random subsets."""

from dataclasses import dataclass
from typing import ClassVar

from tda.settings.of_experiment import OfExperiment


@dataclass(kw_only=True)
class SubsetRetraining(OfExperiment):
    """Which subsets, and how often each."""

    alternatives: ClassVar = (*OfExperiment.alternatives, (("alpha",), ("left_out",)))

    purpose: str
    """evaluation: subsets that judge the methods; fitting: subsets for datamodels, empirical influence and choosing damping."""
    alpha: float
    """Share of the training examples in a subset."""
    left_out: float | None = None
    """Share of the training examples that a subset lacks, at least one, instead of --alpha."""
    same_run: bool = False
    """Repeat the runs of the first --num_retrainings members, start and batches, without the left-out examples' loss terms."""
    num_subsets: int
    """Number of subsets to retrain on."""
    num_retrainings: int
    """Retrainings of each subset, with different initialisation and batch order."""
    first_subset: int
    """Retrain only from this subset on, counted from 0; with --num_subsets as its end, several processes can share the work."""
