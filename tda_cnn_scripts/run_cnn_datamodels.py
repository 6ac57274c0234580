"""Step 3: datamodels and empirical influence (datamodels, empirical_influence), fitted to subset retrainings.

Reads the ensemble, for its seeds, and run_subset_retraining.py --purpose fitting; seed k takes the k-th block of subsets.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful), the same for each
checkpoint of a seed.
Cost: a cross-validated regression for each test example and seed, after the retrainings.
"""

from tda.settings import Scoring, run

SETTINGS = Scoring(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    methods={
        "datamodels": {"alpha": 0.5, "num_subsets": 100, "penalty": "ridge"},
        "empirical_influence": {"alpha": 0.5, "num_subsets": 100},
    },
    seed_id=None,
    num_seeds=None,
    memory_budget=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
