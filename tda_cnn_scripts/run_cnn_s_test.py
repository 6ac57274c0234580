"""Step 3, optional: keep s_test = (curvature + damping)^-1 g_test, and score new training examples by one product.

Reads the ensemble of run_cnn_training.py.
Writes results/<experiment>/s_test/<method>/<seed>/s_test_epoch_<k>.safetensors (4 bytes a test example and parameter: 810 MB
a checkpoint for mnist3) and, with --new_indices, new_examples_epoch_<k>.parquet beside it (positive = helpful).
Cost on two CPU cores: seconds for each checkpoint of digits3, a minute for mnist3.
"""

from tda.settings import STest, run

SETTINGS = STest(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    method="if",
    damping=None,
    num_checkpoints=1,
    new_indices="",
    seed_id=None,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
