"""Training feature attribution: which pixels of the most helpful training images carry their influence on a test image.

Reads the ensemble of a training script and, with --chosen_by <method>, its scores; or, with --source folders or voc2012, a
torchvision classifier's trained parameters and photographs. The spread over seeds needs two seeds, or files of parameters.
Writes into results/<experiment>/feature_attribution/
  maps_<score>.npz                        mean, std and |mean| / std over seeds of each pair's map, with all channels
  pairs_<score>.csv                       the pairs, their scores, and where the maps' mass lies
  maps_<score>_test_<index>.png and .pdf  a figure for each test image
Cost on two CPU cores: a minute for 20 pairs, ten seeds, five checkpoints and ten noisy copies of a small CNN.
"""

from dataclasses import dataclass

from tda.steps.feature_attribution import FeatureSettings, run_feature_attribution
from tda.system.command_line import run_script


@dataclass
class Settings(FeatureSettings):
    """The constants to edit."""

    source: str = "experiment"
    model: str = "cnn"
    task: str = "digits3"
    num_per_class: int = 10


if __name__ == "__main__":
    run_script(Settings, run_feature_attribution)
