"""Step 3: influence functions in the span of the Hessian's dominant eigenvectors.

Reads the ensemble of run_vit_finetuning.py.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful); the files'
metadata holds the eigenvalues and their residuals.
Cost on two CPU cores, ten seeds of digits3 at 10 per class: about 40 s.
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
    iterations: int = 20
    """Products with the Hessian for each member."""
    num_eigenvalues: int = 10
    """How many eigenvalues, those of largest magnitude, are kept."""


def main(settings: Settings) -> str:
    """Score by Arnoldi's influence functions."""
    kept = {"iterations": settings.iterations, "num_eigenvalues": settings.num_eigenvalues}
    return score_experiment(settings, {"if_arnoldi": kept})


if __name__ == "__main__":
    run_script(Settings, main)
