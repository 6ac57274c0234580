"""Step 5: where the spread of scores over seeds comes from: initialisation, order of batches, both, or the checkpoint.

Reads data/subset_indices/<task>/ and the data set; no ensemble is needed.
Writes into results/<experiment>/
  variance_components.csv     for each method the shares of a pair's score variance, with 95 % intervals: of one checkpoint's
                              score and of the mean of the last ones, pairs weighing alike or by their variance
  variance_p_values.csv       what the t-test says where initialisations alone differ, orders alone, or both
  variance_components.png and .pdf    both as a picture
  crossed_scores/<method>/    one file a run and method; a killed run of this script continues with what is missing
Cost: num_starts x num_orders trainings, scored by each method; leave-one-out retrains for each of them.
"""

from tda.settings import VarianceComponents, run

SETTINGS = VarianceComponents(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    methods={"loo": {}, "grad_dot": {}},
    num_starts=5,
    num_orders=5,
    num_checkpoints=5,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
