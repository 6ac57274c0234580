"""Which method finds wrong labels? Flip a share of the training labels, retrain, and rank examples by self-influence.

Reads data/subset_indices/<task>/ and the data set.
Writes results/<experiment>/mislabel_detection.csv: the area under the curve of each method and seed.
Cost: an ensemble's training and a pass over its training examples for each method.
"""

from dataclasses import dataclass

from tda.steps.mislabel_detection import MislabelSettings, detect_mislabels
from tda.system.command_line import run_script


@dataclass
class Settings(MislabelSettings):
    """The constants to edit."""

    model: str = "mlp"
    task: str = "mnist"
    num_per_class: int = 500


if __name__ == "__main__":
    run_script(Settings, detect_mislabels)
