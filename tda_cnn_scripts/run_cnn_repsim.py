"""Step 3: similarity of penultimate representations, by cosine (repsim) and by inner product (repdot).

Reads the ensemble of run_cnn_training.py.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = alike, whatever
the labels).
Cost on two CPU cores, ten seeds of digits3 at 10 per class: about 5 s.
"""

from dataclasses import dataclass

from tda.steps.scoring import ScoringSettings, score_experiment
from tda.system.command_line import run_script


@dataclass
class Settings(ScoringSettings):
    """The constants to edit."""

    model: str = "cnn"
    task: str = "digits3"
    num_per_class: int = 10


def main(settings: Settings) -> str:
    """Score by both similarities."""
    return score_experiment(settings, {"repsim": {}, "repdot": {}})


if __name__ == "__main__":
    run_script(Settings, main)
