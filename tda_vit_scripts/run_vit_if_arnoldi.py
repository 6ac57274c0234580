"""Step 3: influence functions in the span of the Hessian's dominant eigenvectors.

Reads the ensemble of run_vit_finetuning.py.
Writes results/<experiment>/tda_scores/<method>/<seed>/attribution_epoch_<k>.parquet (positive = helpful); the files'
metadata holds the eigenvalues and their residuals.
Cost on two CPU cores, ten seeds of digits3 at 10 per class: about 40 s.
"""

from tda.settings import Scoring, run

SETTINGS = Scoring(
    experiment=None,
    model="vit",
    task="digits3",
    num_per_class=10,
    variant="",
    methods={"if_arnoldi": {"iterations": 20, "num_eigenvalues": 10, "hessian_examples": 0}},
    seed_id=None,
    num_seeds=None,
    memory_budget=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
