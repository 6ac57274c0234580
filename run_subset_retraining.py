"""Retrain on random subsets of the training set, the ground truth of the linear datamodeling score (LDS).

Reads data/subset_indices/<task>/ and the data set.
Writes results/<experiment>/retrainings/<hash>.safetensors, one for each subset and seed: losses, margins and predictions on the
test set. A killed run continues with what is missing.
Cost: subsets x seeds trainings, each on its share of the examples.
"""

from dataclasses import dataclass

from tda.steps.subset_retraining import SubsetRetrainingSettings, retrain_subsets
from tda.system.command_line import run_script


@dataclass
class Settings(SubsetRetrainingSettings):
    """The constants to edit."""

    model: str = "mlp"
    task: str = "mnist"
    num_per_class: int = 500


if __name__ == "__main__":
    run_script(Settings, retrain_subsets)
