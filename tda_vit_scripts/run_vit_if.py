"""Step 3: influence functions, converged (if) and by the published recursion (if_lissa).

Reads the ensemble of run_vit_finetuning.py.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful); the files'
metadata holds the solver's residual.
Cost on two CPU cores, ten seeds of digits3 at 10 per class: at most five minutes.
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
    matrix: str = "gauss_newton"
    """Curvature that the converged influence function inverts: gauss_newton, or hessian (slow and indefinite)."""
    damping: float = 0.5
    """Number added to the diagonal of the curvature by the converged form."""
    lissa_damping: float = 5e-3
    """Damping of the published recursion."""


def main(settings: Settings) -> str:
    """Score by both forms of influence functions."""
    converged = {"matrix": settings.matrix, "damping": settings.damping}
    return score_experiment(settings, {"if": converged, "if_lissa": {"damping": settings.lissa_damping}})


if __name__ == "__main__":
    run_script(Settings, main)
