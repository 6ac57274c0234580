"""Step 9: plant a patch in one class's training images, and see whether influence maps lie on it.

Reads data/subset_indices/<task>/ and the data set; uses the plain ensemble of the training script, or trains it.
Writes models/<model>/<experiment>_shortcut/, and into results/<experiment>_shortcut/
  shortcut_misread.csv                 how many patched test images of other classes each ensemble takes for the patched class
  shortcut_merits.csv                  where the maps lie, with 95 % intervals over seeds
  shortcut_maps.npz                    the maps, averaged over seeds, with all channels
  shortcut_merits.png, shortcut_maps.png and .pdf
Cost: nine minutes of one CPU core for cifar10 with 200 images a class, ten seeds and --num_test 10, most of it training.
"""

from tda.settings import ShortcutStudy, run

SETTINGS = ShortcutStudy(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    red=1.0,
    green=0.0,
    blue=0.0,
    patch_size=5,
    patch_row=2,
    patch_column=2,
    patched_class=0,
    patched_share=0.5,
    num_test=20,
    num_train=3,
    scores=("grad_cos", "grad_dot"),
    smoothing_copies=10,
    smoothing_deviation=0.1,
    channel_reduction="largest",
    num_checkpoints=1,
    seed_id=None,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
