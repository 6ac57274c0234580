"""Step 8: which method finds wrong labels? Flip a share of the training labels, retrain, and rank examples by self-influence.

Reads data/subset_indices/<task>/ and the data set.
Writes results/<experiment>/mislabel_detection.csv: the area under the curve of each method and seed.
Cost: an ensemble's training and a pass over its training examples for each method.
"""

from tda.settings import MislabelDetection, run

SETTINGS = MislabelDetection(
    experiment=None,
    model="mlp",
    task="mnist",
    num_per_class=500,
    variant="",
    methods=("grad_dot", "grad_cos", "trak"),
    share=0.1,
    seed_id=None,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
