"""Step 3: methods that follow the training: regressions on gradients at early checkpoints too.

Reads the ensemble of run_vit_finetuning.py, trained with --early_epochs, and averages over those epochs: both kernels
(kernel_trajectory) or TRAK's alone (trak_trajectory). For models of few parameters there is --methods if_trajectory too.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful).
Cost: for each seed and kept epoch a gradient kernel and a regression (trak_trajectory), or two of each (kernel_trajectory).
"""

from tda.settings import Scoring, run

SETTINGS = Scoring(
    experiment=None,
    model="vit",
    task="digits3",
    num_per_class=10,
    variant="",
    methods={
        "kernel_trajectory": {"early_epochs": "", "ridge_factor": 1.0, "curvature_power": 0.5},
        "trak_trajectory": {"early_epochs": ""},
    },
    seed_id=None,
    num_seeds=None,
    memory_budget=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
