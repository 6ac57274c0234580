"""Step 9: do influence maps tell the truth? Training steps on the most important pixels alone, and on images without them.

Reads the ensemble of a training script.
Writes results/<experiment>/map_truth.csv, .png and .pdf: the test loss change (nats, positive = helpful) of one step on the
most helpful training images of which a share of the pixels is kept, or removed, by the map or at random, with 95 % intervals
over seeds.
Cost: two minutes of one CPU core for ten seeds of cifar10 with 200 images a class.
"""

from tda.settings import MapTruthTest, run

SETTINGS = MapTruthTest(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    num_test=40,
    num_train=5,
    score="grad_dot",
    ranked_by="map_times_change",
    smoothing_copies=0,
    smoothing_deviation=0.1,
    seed_id=None,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
