"""Step 7: brittleness: remove the most helpful training examples of a test example by each method, and retrain.

Reads results/<experiment>/tda_scores/ of all methods found there, and the data.
Writes into results/<experiment>/
  removal.csv            for each method and share: fall of the margin with a 95 % bootstrap interval over test examples, the
                         share of predictions that change, the fall as a multiple of that by random removal, and the rise of
                         the loss with its interval over seeds and test examples
  removal.png and .pdf   the same as curves
  removal_same_run.csv, .png and .pdf, with --same_run: instead, of the members' own runs, start and batches, without the
                         loss terms of the examples that each member's own scores call most helpful
  retrainings/           one small file a retraining; a killed run continues with what is missing
Cost: methods x shares x test examples x seeds retrainings.
"""

from tda.settings import RemovalEvaluation, run

SETTINGS = RemovalEvaluation(
    experiment=None,
    model="mlp",
    task="mnist",
    num_per_class=500,
    variant="",
    num_seeds=None,
    shares=(0.01, 0.05),
    num_test=20,
    num_retrainings=3,
    same_run=False,
    methods=(),
    num_checkpoints=5,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
