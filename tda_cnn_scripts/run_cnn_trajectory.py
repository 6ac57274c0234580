"""Step 3: methods that follow the training: TRAK's regression at early checkpoints too (kernel_trajectory, trak_trajectory).

Reads the ensemble of run_mlp_training.py, or one trained with --early_epochs.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful).
Cost: for each seed and kept epoch a gradient kernel and a regression (trak_trajectory), or two of each (kernel_trajectory).
"""

from dataclasses import dataclass

from tda.methods import method_named
from tda.steps.scoring import ScoringSettings, score_experiment
from tda.system.command_line import run_script


@dataclass
class Settings(ScoringSettings):
    """The constants to edit."""

    model: str = "mlp"
    task: str = "mnist"
    num_per_class: int = 500
    early_epochs: str = ""
    """Early epochs whose checkpoints count besides the scored one, such as 1,2,5; without it those of the training plan."""
    methods: str = "kernel_trajectory,trak_trajectory"
    """Which to score by: kernel_trajectory, trak_trajectory, if_trajectory (for models of few parameters) or, at the scored
    checkpoint alone, trak_kernels."""


def main(settings: Settings) -> str:
    """Score by the averaged regressions."""
    chosen = {}
    for name in settings.methods.split(","):
        chosen[name] = {"early_epochs": settings.early_epochs} if "early_epochs" in method_named(name).settings else {}
    return score_experiment(settings, chosen)


if __name__ == "__main__":
    run_script(Settings, main)
