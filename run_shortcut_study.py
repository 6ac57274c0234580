"""Shortcut study: plant a patch in one class's training images, and see whether influence maps lie on it.

Reads data/subset_indices/<task>/ and the data set; uses the plain ensemble of the training script, or trains it.
Writes models/<model>/<experiment>_shortcut/, and into results/<experiment>_shortcut/
  shortcut_misread.csv                 how many patched test images of other classes each ensemble takes for the patched class
  shortcut_merits.csv                  where the maps lie, with 95 % intervals over seeds
  shortcut_maps.npz                    the maps, averaged over seeds, with all channels
  shortcut_merits.png, shortcut_maps.png and .pdf
Cost: nine minutes of one CPU core for cifar10 with 200 images a class, ten seeds and --num_test 10, most of it training.
"""

from dataclasses import dataclass

from tda.steps.shortcut_study import ShortcutSettings, run_shortcut_study
from tda.system.command_line import run_script


@dataclass
class Settings(ShortcutSettings):
    """The constants to edit."""

    model: str = "cnn"
    task: str = "digits3"
    num_per_class: int = 10


if __name__ == "__main__":
    run_script(Settings, run_shortcut_study)
