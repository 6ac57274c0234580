"""Step 5: how far the methods agree: correlations between methods over all (train, test) pairs.

Reads results/<experiment>/tda_scores/ of all methods found there; they must have scored the same seeds and examples.
Writes into results/<experiment>/, for the statistics mean and std over seeds and pvalue (t-test),
  correlation_pearson_<statistic>.csv, correlation_spearman_<statistic>.csv   matrices, methods by methods
  correlation_<statistic>.png and .pdf                                        the same as heat maps
A correlation with a constant, such as p-values that are all 0, is undefined: an empty cell, a dash in the heat map.
Cost on two CPU cores: seconds.
"""

from tda.settings import CorrelationAnalysis, run

SETTINGS = CorrelationAnalysis(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    num_seeds=None,
    num_checkpoints=5,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
