"""Step 5: which methods reproduce leave-one-out (LOO) as a distribution over training runs, not as a number alone?

Reads results/<experiment>/tda_scores/ of all methods found there, LOO among them; they must have scored the same seeds and
examples.
Writes into results/<experiment>/
  agreement_with_loo.csv       a row for each method and number of averaged checkpoints: agreement with LOO of the same run, of
                               means over seeds, deviations, p-values and verdicts, and the distance of the distributions, each
                               with its 95 % interval over seeds and test examples
  agreement_between_runs.csv   scores of one run against LOO of another, beside LOO of one run against LOO of another, and
                               the same for halves of the seeds
  agreement_with_loo.png and .pdf
Cost on two CPU cores: seconds to a minute.
"""

from tda.settings import AgreementAnalysis, run

SETTINGS = AgreementAnalysis(
    experiment=None,
    model="cnn",
    task="mnist3",
    num_per_class=10,
    variant="",
    num_seeds=None,
    num_checkpoints=1,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
