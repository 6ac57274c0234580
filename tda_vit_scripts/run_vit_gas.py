"""Step 3: GAS, TracInCP with every gradient at norm 1.

Reads the ensemble of run_vit_finetuning.py.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful); the mean
over a seed's checkpoints is GAS.
Cost on two CPU cores, ten seeds of digits3 at 10 per class: about 20 s.
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
    """Score by gradient aggregated similarity."""
    return score_experiment(settings, {"gas": {}})


if __name__ == "__main__":
    run_script(Settings, main)
