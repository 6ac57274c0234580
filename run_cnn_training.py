"""Step 2: train the ensemble of CNNs, one member for each seed of random_seeds.pt.

Reads data/subset_indices/<task>/ and the data set.
Writes models/<model>/<experiment>/<seed>/ckpt_epoch_<k>.safetensors for the last five epochs, with optimizer state,
and results/<experiment>/manifest.json. Cost on two CPU cores: seconds at 10 examples per class.
"""

from tda.settings import Training, run

SETTINGS = Training(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    early_epochs=(),
    seed_id=None,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
