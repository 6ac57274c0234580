"""Step 7, optional: choose the damping of a method by subsets that judge nothing.

Reads the ensemble's checkpoints of one seed and run_subset_retraining.py's retrainings with --purpose fitting.
Writes results/<experiment>/damping_choice_<method>.csv: for each candidate the LDS on the fitting subsets, with its 95 %
bootstrap interval. The subsets of --purpose evaluation, which judge the methods in run_lds_evaluation.py, are never read.
Cost: one scoring of one member for each candidate.
"""

from tda.settings import DampingChoice, run

SETTINGS = DampingChoice(
    experiment=None,
    model="mlp",
    task="mnist",
    num_per_class=500,
    variant="",
    method="kernel_trajectory",
    setting="ridge_factor",
    candidates=(0.1, 0.3, 1.0, 3.0),
    alpha=0.5,
    num_subsets=100,
    num_retrainings=1,
    seed_id=0,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
