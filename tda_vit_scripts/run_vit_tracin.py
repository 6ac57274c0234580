"""Step 3: TracInCP, gradient inner products weighted by the learning rate.

Reads the ensemble of run_vit_finetuning.py.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful); the mean
over a seed's checkpoints is TracInCP.
Cost on two CPU cores, ten seeds of digits3 at 10 per class: about 20 s.
"""

from tda.settings import Scoring, run

SETTINGS = Scoring(
    experiment=None,
    model="vit",
    task="digits3",
    num_per_class=10,
    variant="",
    methods={"tracin": {}},
    seed_id=None,
    num_seeds=None,
    memory_budget=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
