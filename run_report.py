"""Step 10: make the page that a person opens: what the methods say, how reliably, and of which examples.

Reads results/<experiment>/: all scores, summary.csv, and what else is there of correlations, agreement, LDS, maps and removal
candidates; and each seed's last checkpoint. --compare A B reads the tables of two experiments.
Writes results/<experiment>/report.html, one file of at most 15 MB that needs no network; with --compare
results/<A>/comparison_with_<B>.html.
Cost on one CPU core: 6 s for 14 methods and 4,500 pairs of small CNNs, 9 s of vision transformers.
"""

from tda.settings import Report, run

SETTINGS = Report(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    num_seeds=None,
    compare=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
