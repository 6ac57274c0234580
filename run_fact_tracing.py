"""Step 7, language: which training texts state a fact, and which make the model give it? Two questions, side by side.

Reads results/<experiment>/tda_scores/ (methods that are named and lack scores are scored first), each seed's last checkpoint
and the data: a task that tells what its texts state, such as pararel, pararel_questions or webnlg_facts.
Writes into results/<experiment>/
  asked_facts.csv          the facts asked for: how many texts state them, and what the members answer
  fact_tracing.csv         which texts state the answer: for each method mean reciprocal rank and recall, with 95 % bootstrap
                           intervals over facts, and whether reliable pairs are the stating ones
  fact_removal.csv         which texts make the model give it: fall of the answer's log-probability and rank where each method's
                           most helpful texts are left out, with intervals over facts and seeds, beside random and stating texts
  fact_removal_alone.csv   the same fall where a fact's texts are left out alone, and together with those of others
  fact_texts.csv           each method's first texts for each fact, with mean, deviation over seeds, q, and what they state
  fact_tracing.png, .pdf   both questions side by side
  retrainings/             one small file a training; a killed run continues with what is missing
Cost: (methods + 2) x groups of facts x seeds trainings.
"""

from tda.settings import FactTracing, run

SETTINGS = FactTracing(
    experiment=None,
    model="gpt_mini",
    task="pararel",
    num_per_class=250,
    variant="epochs20_rate5e-3",
    num_seeds=None,
    methods=(),
    num_checkpoints=2,
    num_facts=24,
    rank=5,
    found=10,
    removed=3,
    removed_by=("trak", "grad_cos", "bm25"),
    significance_of=(),
    level=0.05,
    num_retrainings=3,
    facts_at_once=8,
    alone=0,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
