"""Step 8: what are scores good for? Do they find wrong labels, the right class or group, and the same examples in every seed?

Reads models/<model>/<experiment>/, results/<experiment>/tda_scores/ and the data.
Writes into results/<experiment>/
  score_metrics.csv            a row for each metric and score, of one seed and of the mean over seeds, with 95 % intervals over
                               seeds, what guessing would have, and the distance from another score
  score_metrics.png and .pdf   the same as bars
Metrics: wrong_labels (where a task knows the true labels: cifar10n_..., <task>_flippedNN), class, group (where it knows groups:
<task>_patchedNN, <task>_merged, <task>_mixed, tables with a group column), overlap of the highest over seeds, randomised (a
score of a model whose parameters are shuffled should be another).
Cost: a pass over the training examples for each self-influence; folds x seeds trainings for out_of_fold and cleanlab.
"""

from tda.settings import ScoreMetrics, run

SETTINGS = ScoreMetrics(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    num_seeds=None,
    metrics=("all",),
    methods=(),
    self_influence=("grad_dot", "trak"),
    suspicions=(
        "loss",
        "margin",
        "gradient_norm",
        "neighbours",
        "forgetting",
        "area_under_margin",
        "out_of_fold",
        "kernel",
        "kernel_posterior",
    ),
    compare_with="out_of_fold",
    randomised=("grad_dot", "grad_cos", "trak"),
    folds=5,
    highest=10,
    num_checkpoints=5,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
