"""Step 2 for the field's public benchmarks: train the ensemble of logistic regressions, MLPs or residual networks.

Reads data/subset_indices/<task>/ and the data set.
Writes models/<model>/<experiment>/<seed>/ckpt_epoch_<k>.safetensors for the last epoch and, for methods that follow the
training, for a few early ones, and results/<experiment>/manifest.json. The settings of the field are
  --model mlp     --task mnist  --num_per_class 500
  --model lr      --task mnist  --num_per_class 500
  --model resnet9 --task cifar2 --num_per_class 2500   (needs a GPU)
Cost: one training of 20 (lr) or 50 (mlp, resnet9) epochs for each seed.
"""

from dataclasses import dataclass

from tda.steps.training import TrainingSettings, train_experiment
from tda.system.command_line import run_script


@dataclass
class Settings(TrainingSettings):
    """The constants to edit."""

    model: str = "mlp"
    task: str = "mnist"
    num_per_class: int = 500


if __name__ == "__main__":
    run_script(Settings, train_experiment)
