"""Step 3, optional: keep s_test = (curvature + damping)^-1 g_test, and score new training examples by one product.

Reads the ensemble of run_vit_finetuning.py.
Writes results/<experiment>/s_test/<method>/<seed>/s_test_epoch_<k>.safetensors (4 bytes a test example and parameter: 810 MB
a checkpoint for mnist3) and, with --new_indices, new_examples_epoch_<k>.parquet beside it (positive = helpful).
Cost on two CPU cores: seconds for each checkpoint of digits3, a minute for mnist3.
"""

from dataclasses import dataclass

from tda.steps.s_test import STestSettings, keep_s_test
from tda.system.command_line import run_script


@dataclass
class Settings(STestSettings):
    """The constants to edit."""

    model: str = "vit"
    task: str = "digits3"
    num_per_class: int = 10


if __name__ == "__main__":
    run_script(Settings, keep_s_test)
