"""Step 3: influence functions, converged (if) and by the published recursion (if_lissa).

Reads the ensemble of run_cnn_training.py.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful); the files'
metadata holds the solver's residual.
Cost on two CPU cores, ten seeds of mnist3 at 10 per class: about a minute.
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
    matrix: str = "gauss_newton"
    """Curvature that the converged influence function inverts: heaviest_rows, gauss_newton, or hessian (slow, indefinite)."""
    damping: float = 0.5
    """Number added to the diagonal of the curvature by the converged form."""
    lissa_damping: float = 5e-3
    """Damping of the published recursion."""
    published: bool = True
    """Whether to score by the published recursion too, whose cost grows with training examples x test examples x parameters."""


def main(settings: Settings) -> str:
    """Score by both forms of influence functions."""
    methods = {"if": {"matrix": settings.matrix, "damping": settings.damping}}
    if settings.published:
        methods["if_lissa"] = {"damping": settings.lissa_damping}
    return score_experiment(settings, methods)


if __name__ == "__main__":
    run_script(Settings, main)
