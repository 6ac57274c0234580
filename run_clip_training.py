"""Step 2: train an ensemble of contrastive models of images with texts, one member for each seed of random_seeds.pt.

Reads data/subset_indices/<task>/, the data set and the base: EfficientNet-Lite0 and a sentence encoder from two packages
(req-pretrained.txt), a CLIP model by hub name, from a folder that save_pretrained wrote or of open_clip, or none (small).
Writes models/<model>/<experiment>/<seed>/ckpt_epoch_<k>.safetensors (what is trained, with optimizer state; the base's name and
its weights' hash beside it), models/<model>/frozen/ (what the frozen towers make of each pair, once), and
results/<experiment>/manifest.json. Cost on one CPU core: 12 ms a pair for the frozen towers, once; then half a second a seed.
"""

from tda.settings import PairTuning, run

SETTINGS = PairTuning(
    experiment=None,
    model="clip",
    task="flickr8k",
    num_per_class=1500,
    variant="",
    early_epochs=(),
    base="packaged",
    trained="projections",
    dimension=128,
    image_size=128,
    seed_id=None,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
