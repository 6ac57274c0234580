"""Step 8: which training examples should go, and does it help? Remove or relabel them by each selection, and train again.

Reads results/<experiment>/tda_scores/ of all methods found there, the members' checkpoints, and the data.
One part of the test subset chooses, another is reported on. Writes into results/<experiment>/
  data_debiasing.csv      for each selection, method, action and number: accuracy, accuracy of the worst group and of what
                          matters, loss and calibration error on the report part, with 95 % intervals over seeds, and the
                          differences, paired over seeds, to training on all and to as many random examples
  data_debiasing_accuracy.png, data_debiasing_worst_group_accuracy.png, and .pdf   the same as curves
  removal_candidates.csv  every training example with scores, q-values and verdicts: what one hands to a person
  galleries/*.png         the first examples of each selection, with label, prediction and file name
  retrainings/            one small file a retraining; a killed run continues with what is missing
Cost: (selections x shares x actions) x seeds retrainings; digits3 at 50 a class, two methods: some 1,000 of half a second.
"""

from tda.settings import DataDebiasing, run

SETTINGS = DataDebiasing(
    experiment=None,
    model="cnn",
    task="digits3_flipped20",
    num_per_class=50,
    variant="",
    num_seeds=None,
    matter="groups",
    groups=("known",),
    beta=1.0,
    methods=(),
    num_checkpoints=5,
    selections=(),
    self_influence=("grad_dot",),
    own_scores=(),
    neighbours=10,
    num_folds=5,
    fold_seeds=3,
    actions=("remove", "relabel"),
    shares=(0.02, 0.05, 0.10, 0.20),
    level=0.05,
    selection_share=0.5,
    division=0,
    num_retrainings=10,
    random_draws=2,
    shown=50,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
