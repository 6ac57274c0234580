"""Step 5: how far the methods agree: correlations between methods over all (train, test) pairs.

Reads results/<experiment>/tda_scores/ of all methods found there; they must have scored the same seeds and examples.
Writes into results/<experiment>/, for the statistics mean and std over seeds and pvalue (t-test),
  correlation_pearson_<statistic>.csv, correlation_spearman_<statistic>.csv   matrices, methods by methods
  correlation_<statistic>.png and .pdf                                        the same as heat maps
A correlation with a constant, such as p-values that are all 0, is undefined: an empty cell, a dash in the heat map.
Cost on two CPU cores: seconds.
"""

from dataclasses import dataclass

from tda.experiments.folders import ResultsFolder
from tda.steps.correlation_analysis import correlate_methods
from tda.system.command_line import run_script


@dataclass
class Settings:
    """The constants to edit."""

    experiment: str = "cnn_digits3_10pc"
    """Folder below results/ to analyse, <model>_<task>_<num_per_class>pc."""
    num_checkpoints: int = 5
    """A seed's score is the mean over this many of its last checkpoints, or over all where fewer are stored."""


def main(settings: Settings) -> str:
    """Correlate every method found with every other."""
    return correlate_methods(ResultsFolder(settings.experiment), settings.num_checkpoints, vars(settings))


if __name__ == "__main__":
    run_script(Settings, main)
