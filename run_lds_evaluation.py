"""Step 7: which method predicts retraining? The linear datamodeling score (LDS) of every method on disk.

Reads results/<experiment>/tda_scores/ of all methods found there and run_subset_retraining.py's retrainings.
Writes into results/<experiment>/
  lds.csv                      a row for each method and ensemble size: LDS against the mean of a subset's retrainings with its
                               95 % bootstrap interval over subsets and test examples, and against a single retraining;
                               random scores, one half of the retrainings as prediction of the other (retraining), and what an
                               exact prediction would reach (exact_prediction, the noise ceiling)
  lds_by_reliability.csv       LDS of the pairs that the t-test calls reliable, of the others, of as many random pairs and of
                               as many with the largest mean scores, and their scores' correlation with the retraining effect
  lds_by_test_reliability.csv  LDS of test examples, in quarters by their share of reliable pairs
  lds.png and .pdf             LDS against compute time
  lds_by_reliability.png and .pdf
With --left_out or --same_run it writes instead, beside the rows of earlier calls,
  lds_left_out.csv             a row for each method, kind of retrainings (same run, other seeds) and number left out: LDS of
                               one run's scores, of means over seeds, and of changes of the distribution (distributional LDS)
  lds_left_out.png and .pdf    the same as curves
Cost: the bootstrap's rank correlations, methods x ensemble sizes x its draws; nothing is trained.
"""

from tda.settings import LdsEvaluation, run

SETTINGS = LdsEvaluation(
    experiment=None,
    model="mlp",
    task="mnist",
    num_per_class=500,
    variant="",
    num_seeds=None,
    alpha=0.5,
    left_out=None,
    same_run=False,
    num_subsets=100,
    num_retrainings=6,
    num_checkpoints=5,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
