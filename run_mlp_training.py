"""Step 2 for the field's public benchmarks: train the ensemble of logistic regressions, MLPs or residual networks.

Reads data/subset_indices/<task>/ and the data set.
Writes models/<model>/<experiment>/<seed>/ckpt_epoch_<k>.safetensors for the last epoch and, for methods that follow the
training, for a few early ones, and results/<experiment>/manifest.json. The settings of the field are
  --model mlp     --task mnist  --num_per_class 500
  --model lr      --task mnist  --num_per_class 500
  --model resnet9 --task cifar2 --num_per_class 2500   (needs a GPU)
Cost: one training of 20 (lr) or 50 (mlp, resnet9) epochs for each seed.
"""

from tda.settings import Training, run

SETTINGS = Training(
    experiment=None,
    model="mlp",
    task="mnist",
    num_per_class=500,
    variant="",
    early_epochs=(),
    seed_id=None,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
