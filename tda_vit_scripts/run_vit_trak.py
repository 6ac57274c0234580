"""Step 3: TRAK, exact (trak) and with projected gradients (trak_projected).

Reads the ensemble of run_vit_finetuning.py.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful).
Writes results/<experiment>/ensemble_scores_<method>.parquet, the ensemble's score (the mean of 1 - p times the mean of the
rest), where it was not called for a single seed.
Cost on two CPU cores, ten seeds of digits3 at 10 per class: about 25 s.
"""

from tda.settings import Scoring, run

SETTINGS = Scoring(
    experiment=None,
    model="vit",
    task="digits3",
    num_per_class=10,
    variant="",
    methods={
        "trak": {"ridge": None},
        "trak_projected": {
            "ridge": None,
            "dimension": 2048,
            "projection_seed": 0,
            "projection": "sparse",
            "half_precision": False,
        },
    },
    seed_id=None,
    num_seeds=None,
    memory_budget=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
