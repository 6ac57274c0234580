"""Step 2: train an ensemble of small language models from scratch, one member for each seed of random_seeds.pt.

Reads data/subset_indices/<task>/ and the data set: gpt takes webnlg, pararel or texts of one's own whose objective is the next
token; t5 takes pararel_questions, texts with answers.
Writes models/<model>/<experiment>/<seed>/ckpt_epoch_<k>.safetensors for the last two epochs (parameters and optimizer state),
data/tokenizers/<task>_*.json (the tokenizer, trained once), and results/<experiment>/manifest.json.
Cost on one CPU core for a seed of pararel at 100 per class: three quarters of a minute of computing.
"""

from tda.settings import Training, run

SETTINGS = Training(
    experiment=None,
    model="gpt",
    task="pararel",
    num_per_class=100,
    variant="",
    early_epochs=(),
    seed_id=None,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
