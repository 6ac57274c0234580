"""Step 9, language: which training texts make a model continue a prompt so, and which oppose it?

Reads each seed's last checkpoints of an experiment of model gpt or gpt_mini, or, by --base and --texts, causal language models
and training texts of one's own.
Writes into results/<experiment>/text_attributions/
  <number>.csv    for each method the texts that help and oppose the continuation most: mean and deviation over seeds, q, and
                  each token's share, which sum to the mean, where the method has them
  <number>.json   the same with the prompt and what each seed's model says, for the report (run_report.py shows it)
and prints the table. The number stands for the continuation, the checkpoints, the texts and the methods; what is there already
is shown again.
Cost on one CPU core: for each seed one scoring of all training texts; 600 sentences by grad_dot: seconds a seed.
"""

from tda.settings import TextAttribution, run

SETTINGS = TextAttribution(
    experiment=None,
    model="gpt_mini",
    task="pararel",
    num_per_class=250,
    variant="epochs20_rate5e-3",
    prompt="The capital of Ireland is",
    continuation=None,
    most_tokens=10,
    methods=("grad_cos", "trak"),
    num_texts=5,
    num_checkpoints=1,
    base=(),
    texts=None,
    column="text",
    length=64,
    seed_id=None,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
