"""Step 6: which method predicts retraining? The linear datamodeling score (LDS) of every method on disk.

Reads results/<experiment>/tda_scores/ of all methods found there and run_subset_retraining.py's retrainings.
Writes into results/<experiment>/
  lds.csv                      a row for each method and ensemble size: LDS against the mean of a subset's retrainings with its
                               95 % bootstrap interval over subsets and test examples, and against a single retraining;
                               random scores; and the noise ceiling, half of the retrainings against the other half
  lds_by_reliability.csv       LDS of the pairs that the t-test calls reliable, of the others, of as many random pairs and of
                               as many with the largest mean scores, and their scores' correlation with the retraining effect
  lds_by_test_reliability.csv  LDS of test examples, in quarters by their share of reliable pairs
  lds.png and .pdf             LDS against compute time
  lds_by_reliability.png and .pdf
Cost: the bootstrap's rank correlations, methods x ensemble sizes x its draws; nothing is trained.
"""

from dataclasses import dataclass

from tda.experiments.folders import ResultsFolder
from tda.steps.lds_evaluation import check_draw, evaluate_lds
from tda.system.command_line import run_script
from tda.training.subset_draws import SubsetDraw


@dataclass
class Settings:
    """The constants to edit."""

    experiment: str = "mlp_mnist_500pc"
    """Folder below results/ to analyse, <model>_<task>_<num_per_class>pc."""
    alpha: float = 0.5
    """Share of the training examples in a subset, as retrained."""
    num_subsets: int = 100
    """Number of subsets that judge."""
    num_seeds: int = 6
    """Retrainings of each subset."""
    num_checkpoints: int = 5
    """A seed's score is the mean over this many of its last checkpoints, or over all where fewer are stored."""


def main(settings: Settings) -> str:
    """Judge every method found."""
    draw = check_draw(SubsetDraw("evaluation", settings.alpha, settings.num_subsets, settings.num_seeds))
    return evaluate_lds(ResultsFolder(settings.experiment), draw, settings.num_checkpoints, vars(settings))


if __name__ == "__main__":
    run_script(Settings, main)
