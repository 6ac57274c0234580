"""Step 3: TRAK along the training's trajectory (trak_trajectory), from the checkpoints of early epochs.

Reads the ensemble of run_mlp_training.py, or one trained with --early_epochs.
Writes results/<experiment>/tda_scores/trak_trajectory/<seed>/attribution_epoch_<k>.parquet (positive = helpful).
Cost: one gradient kernel for each seed and kept epoch.
"""

from dataclasses import dataclass

from tda.command_line import run_script
from tda.scoring import ScoringSettings, score_experiment


@dataclass
class Settings(ScoringSettings):
    """The constants to edit."""

    model: str = "mlp"
    task: str = "mnist"
    num_per_class: int = 500
    early_epochs: str = ""
    """Early epochs whose checkpoints count besides the scored one, such as 1,2,5; without it those of the training plan."""


def main(settings: Settings) -> str:
    """Score by the averaged regression."""
    return score_experiment(settings, {"trak_trajectory": {"early_epochs": settings.early_epochs}})


if __name__ == "__main__":
    run_script(Settings, main)
