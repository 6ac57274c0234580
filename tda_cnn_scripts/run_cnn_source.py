"""Step 3: SOURCE, the derivative through the training with constant curvature in each of a few segments.

Reads the ensemble of run_cnn_training.py, trained with --early_epochs, which --source.early_epochs names again.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful).
Cost: for each seed and kept epoch the curvature at every checkpoint up to it, and its eigenvectors in every segment.
"""

from tda.settings import Scoring, run

SETTINGS = Scoring(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    methods={"source": {"num_segments": 3, "early_epochs": "", "curvature": "auto", "damping": None}},
    seed_id=None,
    num_seeds=None,
    memory_budget=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
