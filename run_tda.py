"""Step 3: any family of models by any registered methods, a part of them or all.

Reads the ensemble of a training script (step 2).
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet; positive = helpful, where the method's
sign does not say otherwise, and results/<experiment>/ensemble_scores_<method>.parquet for methods whose ensemble's score is
not the mean of its members'. Methods are those of tda/methods/ and of the root folder's methods/; `all` leaves out, and names,
those that lack what they need. --help explains the settings of the methods that are chosen.
Cost on two CPU cores, ten seeds of digits3 at 10 per class, all methods: about two minutes.
"""

from tda.settings import Scoring, run

SETTINGS = Scoring(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    methods={"all": {}},
    seed_id=None,
    num_seeds=None,
    memory_budget=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
