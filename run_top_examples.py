"""Step 10: which training examples help and harm each test example most, by exact scores, without the whole matrix in memory.

Reads results/<experiment>/tda_scores/; with --streamed the members in models/<model>/<experiment>/ and the data instead.
Writes results/<experiment>/top_examples.csv: a row for each method, test example and place from 1 to k at either end
(end: helpful, the highest scores of the ensemble, or harmful, the lowest), with the training example's index, its class where
it has one, and its score. An example at the helpful end helps where its score is positive, as one at the harmful end harms
where it is negative. trak_projected with --streamed is called trak_projected_streamed.
Cost: reading the score files once or twice. With --streamed a gradient of every example and member, kept on disk in
results/<experiment>/projected_gradients/, and a product for each pair.
"""

from tda.settings import TopExamples, run

SETTINGS = TopExamples(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    num_seeds=None,
    methods=(),
    k=10,
    streamed=False,
    half_precision=False,
    dimension=2048,
    num_checkpoints=5,
    memory_budget=4.0,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
