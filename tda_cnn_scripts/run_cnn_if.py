"""Step 3: influence functions, converged (if) and by the published recursion (if_lissa).

Reads the ensemble of run_cnn_training.py.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful); the files'
metadata holds the solver's residual.
Cost on two CPU cores, ten seeds of mnist3 at 10 per class: about a minute.
"""

from tda.settings import Scoring, run

SETTINGS = Scoring(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    methods={
        "if": {"matrix": "gauss_newton", "damping": 0.5, "tolerance": 1e-4, "max_iterations": 200},
        "if_lissa": {"damping": 5e-3, "scale": 1e4, "batch_size": 8},
    },
    seed_id=None,
    num_seeds=None,
    memory_budget=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
