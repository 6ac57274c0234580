"""Step 3: added training step, the effect of one more step on each training example.

Reads the ensemble of run_vit_finetuning.py.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful).
Cost on two CPU cores, ten seeds of digits3 at 10 per class: at most a minute and a half.
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
    optimizer_state: str = "checkpoint"
    """State of Adam that the step starts from: checkpoint (the member's own) or fresh (as published)."""


def main(settings: Settings) -> str:
    """Score by one added training step."""
    return score_experiment(settings, {"ats": {"optimizer_state": settings.optimizer_state}})


if __name__ == "__main__":
    run_script(Settings, main)
