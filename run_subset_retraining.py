"""Step 6: retrain on random subsets of the training set, the ground truth of the linear datamodeling score (LDS).

Reads data/subset_indices/<task>/ and the data set.
Writes results/<experiment>/retrainings/<hash>.safetensors, one for each subset and seed: losses, margins and predictions on the
test set. A killed run continues with what is missing.
With --same_run the members' own runs are repeated, start and batches, the left-out examples' terms missing from the loss and
nothing else changed, as in leave-one-out; and once with nothing left out.
Cost: subsets x seeds trainings, each on its share of the examples (of the same run: on all batches).
"""

from tda.settings import SubsetRetraining, run

SETTINGS = SubsetRetraining(
    experiment=None,
    model="mlp",
    task="mnist",
    num_per_class=500,
    variant="",
    purpose="evaluation",
    alpha=0.5,
    left_out=None,
    same_run=False,
    num_subsets=100,
    num_retrainings=6,
    first_subset=0,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
