"""Step 2: train the ensemble of CNNs, one member for each seed of random_seeds.pt.

Reads data/subset_indices/<task>/ and the data set.
Writes models/<model>/<experiment>/<seed>/ckpt_epoch_<k>.safetensors for the last five epochs, with optimizer state,
and results/<experiment>/manifest.json. Cost on two CPU cores: seconds at 10 examples per class.
"""

from dataclasses import dataclass

from tda.steps.training import TrainingSettings, train_experiment
from tda.system.command_line import run_script


@dataclass
class Settings(TrainingSettings):
    """The constants to edit."""

    model: str = "cnn"
    task: str = "digits3"
    num_per_class: int = 10


if __name__ == "__main__":
    run_script(Settings, train_experiment)
