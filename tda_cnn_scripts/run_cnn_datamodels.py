"""Step 3: datamodels and empirical influence (datamodels, empirical_influence), fitted to subset retrainings.

Reads the ensemble, for its seeds, and run_subset_retraining.py --purpose fitting; seed k takes the k-th block of subsets.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful), the same for each
checkpoint of a seed.
Cost: a cross-validated regression for each test example and seed, after the retrainings.
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
    alpha: float = 0.5
    """Share of the training examples in a subset, as retrained."""
    num_subsets: int = 100
    """Subsets that each seed is fitted to; ten seeds need ten times as many retrainings."""
    penalty: str = "ridge"
    """Penalty of the datamodels' regression, chosen by cross-validation: ridge or lasso."""


def main(settings: Settings) -> str:
    """Score by both."""
    subsets = {"alpha": settings.alpha, "num_subsets": settings.num_subsets}
    return score_experiment(settings, {"datamodels": subsets | {"penalty": settings.penalty}, "empirical_influence": subsets})


if __name__ == "__main__":
    run_script(Settings, main)
