"""Step 3: the exact derivative through the training, which predicts leave-one-out without retraining.

Reads the ensemble of run_vit_finetuning.py.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful).
Cost on two CPU cores: about that of leave-one-out. A killed run continues where it was.
"""

from tda.settings import Scoring, run

SETTINGS = Scoring(
    experiment=None,
    model="vit",
    task="digits3",
    num_per_class=10,
    variant="",
    methods={
        "unrolled": {"mode": "auto", "curvature": "hessian", "quantity": "loss", "at_weight": 1.0, "memory_gib": 4.0},
    },
    seed_id=None,
    num_seeds=None,
    memory_budget=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
