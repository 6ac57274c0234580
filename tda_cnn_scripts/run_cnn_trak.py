"""Step 3: TRAK, exact (trak) and with projected gradients (trak_projected).

Reads the ensemble of run_cnn_training.py.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful).
Writes results/<experiment>/ensemble_scores_<method>.parquet, the ensemble's score (the mean of 1 - p times the mean of the
rest), where it was not called for a single seed.
Cost on two CPU cores, ten seeds of digits3 at 10 per class: about 10 s.
"""

from dataclasses import dataclass

from tda.scores.ensemble_scores import write_ensemble_scores
from tda.steps.scoring import ScoringSettings, score_experiment
from tda.system.command_line import run_script


@dataclass
class Settings(ScoringSettings):
    """The constants to edit."""

    model: str = "cnn"
    task: str = "digits3"
    num_per_class: int = 10
    ridge: float | None = None
    """Number added to the diagonal of the gradients' kernel; without it the mean of that diagonal."""
    dimension: int = 2048
    """Dimension of the projected gradients."""
    projection: str = "sparse"
    """Kind of random projection: normal, rademacher or sparse."""
    projection_seed: int = 0
    """From which every member's own projection is drawn."""


def main(settings: Settings) -> str:
    """Score by both forms of TRAK, then combine the members' scores."""
    projected = {name: getattr(settings, name) for name in ("ridge", "dimension", "projection", "projection_seed")}
    methods = {"trak": {"ridge": settings.ridge}, "trak_projected": projected}
    lines = [score_experiment(settings, methods)]
    if settings.seed_id is None:
        lines += [write_ensemble_scores(settings.experiment.results, name) for name in methods]
    return "; ".join(lines)


if __name__ == "__main__":
    run_script(Settings, main)
