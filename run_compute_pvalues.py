"""Step 4: tell scores from noise: p-values of every (train, test) pair over the ensemble's seeds.

Reads results/<experiment>/tda_scores/ of all methods found there, the subsets, and each seed's last checkpoint.
Writes into results/<experiment>/, for each method and the mean over the last k = 1...5 checkpoints,
  pvalues_<method>_across_<k>_ckpts.csv              two-sided t-test over seeds: is the mean score 0?
  qvalues_<method>_across_<k>_ckpts.csv              the same, corrected for the number of pairs (Benjamini-Hochberg)
  pvalues_single_draw_<method>_across_<k>_ckpts.csv  2 Phi(-|mean/std|): is one seed's score far from 0?
  mean_p_values.csv, mean_single_draw_p_values.csv   their means, a row for each k, a column for each method
  summary.csv                                        shares of pairs below the level 0.05, signal to noise
  pvalue_histograms.png and .pdf, attributions_test_<index>.png
Of more than ten million pairs the tables of pairs are .parquet files of float32, which pandas reads.
Cost on two CPU cores: 10 s for 6 methods and 4,500 pairs, 25 s for 5 methods and 250,000 pairs.
"""

from tda.settings import ComputePvalues, run

SETTINGS = ComputePvalues(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
