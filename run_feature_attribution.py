"""Step 9: which pixels of the most helpful training images carry their influence on a test image.

Reads the ensemble of a training script and, with --chosen_by <method>, its scores; or, with --source folders or voc2012, a
torchvision classifier's trained parameters and photographs. The spread over seeds needs two seeds, or files of parameters.
Writes into results/<experiment>/feature_attribution/
  maps_<score>.npz                        mean, std and |mean| / std over seeds of each pair's map, with all channels
  pairs_<score>.csv                       the pairs, their scores, and where the maps' mass lies
  maps_<score>_test_<index>.png and .pdf  a figure for each test image
Cost on two CPU cores: a minute for 20 pairs, ten seeds, five checkpoints and ten noisy copies of a small CNN.
"""

from tda.settings import FeatureAttribution, run

SETTINGS = FeatureAttribution(
    source="experiment",
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    folder="",
    network="resnet18",
    checkpoints=(),
    parameters=(),
    explained_class="person",
    image_size=224,
    images_per_class=50,
    name="photographs",
    tests="misclassified",
    num_test=5,
    num_train=4,
    chosen_by="gradients",
    score="grad_cos",
    damping=0.5,
    smoothing_copies=10,
    smoothing_deviation=0.1,
    channel_reduction="largest",
    absolute=True,
    num_checkpoints=5,
    seed_id=None,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
