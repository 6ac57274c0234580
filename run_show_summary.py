"""Step 10: print an experiment's summary table and the list of its files.

Reads results/<experiment>/summary.csv and the folder. Writes nothing. Cost: seconds.
"""

from tda.settings import ShowSummary, run

SETTINGS = ShowSummary(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
