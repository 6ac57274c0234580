"""Constants and arguments of the step that retrains on random subsets."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfExperiment


@dataclass(kw_only=True)
class SubsetRetraining(OfExperiment):
    """Which subsets, and how often each."""

    purpose: str
    """evaluation: subsets that judge the methods; fitting: subsets for datamodels, empirical influence and choosing damping."""
    alpha: float
    """Share of the training examples in a subset."""
    num_subsets: int
    """Number of subsets to retrain on."""
    num_retrainings: int
    """Retrainings of each subset, with different initialisation and batch order."""
    first_subset: int
    """Retrain only from this subset on, counted from 0; with --num_subsets as its end, several processes can share the work."""
