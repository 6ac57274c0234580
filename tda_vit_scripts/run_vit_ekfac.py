"""Step 3: influence functions with the eigenvalue-corrected Kronecker-factored curvature (EK-FAC).

Reads the ensemble of run_vit_finetuning.py.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful).
Cost on two CPU cores, ten seeds of digits3 at 10 per class: about 45 s.
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
    matrix: str = "fisher"
    """Curvature that is factored: fisher, or empirical_fisher with the training labels instead of the model's."""
    damping: float | None = None
    """Number added to every eigenvalue; without it 0.1 times the layer's mean eigenvalue."""


def main(settings: Settings) -> str:
    """Score by EK-FAC influence functions."""
    return score_experiment(settings, {"ekfac": {"matrix": settings.matrix, "damping": settings.damping}})


if __name__ == "__main__":
    run_script(Settings, main)
