"""Step 3: leave-one-out, by retraining from scratch without each training example.

Reads the ensemble of run_vit_finetuning.py.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful).
Cost on two CPU cores, ten seeds of digits3 at 10 per class: at most three and a half minutes.
"""

from dataclasses import dataclass

from tda.steps.scoring import ScoringSettings, score_experiment
from tda.system.command_line import run_script


@dataclass
class Settings(ScoringSettings):
    """The constants to edit."""

    model: str = "vit"
    task: str = "digits3"
    num_per_class: int = 10


def main(settings: Settings) -> str:
    """Score by leave-one-out."""
    return score_experiment(settings, {"loo": {}})


if __name__ == "__main__":
    run_script(Settings, main)
