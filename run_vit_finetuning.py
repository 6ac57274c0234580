"""Step 2: fine-tune the ensemble of vision transformers by LoRA, one member for each seed of random_seeds.pt.

Reads data/subset_indices/<task>/, the data set and the base model: by hub name, from a folder that save_pretrained wrote, or
the embedded one, a small ViT that is pre-trained once on the data set's other classes and kept in models/bases/<task>/.
Writes models/<model>/<experiment>/<seed>/ckpt_epoch_<k>.safetensors for the last five epochs (adapters, classifier and
optimizer state; the base's name and its weights' hash beside them), and results/<experiment>/manifest.json.
Cost on two CPU cores for digits3 at 10 per class: at most four and a half minutes, of which most is pre-training.
"""

from tda.settings import AdapterTuning, run

SETTINGS = AdapterTuning(
    experiment=None,
    model="vit",
    task="digits3",
    num_per_class=10,
    variant="",
    early_epochs=(),
    base="embedded",
    rank=16,
    alpha=16,
    dropout=0.1,
    random_crop=False,
    mixed_precision=False,
    seed_id=None,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
