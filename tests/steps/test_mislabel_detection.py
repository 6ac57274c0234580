"""How well self-influence finds flipped labels."""

import pandas as pd
from conftest import EXPERIMENT, Ensemble, run_here

from tda.data.index_files import write_subset
from tda.data.tasks import task_named


def test_self_influence_finds_flipped_labels(ensemble: Ensemble):
    """A tenth of 60 labels is wrong; three seeds."""
    write_subset(task_named("digits3"), "train", 20, draw_seed=0, force=False)
    chosen = {"model": "cnn", "task": "digits3", "num_per_class": 20, "methods": ("grad_dot", "trak")}
    line = run_here("run_mislabel_detection.py", **chosen)
    table = pd.read_csv(EXPERIMENT.results.path.parent / "cnn_digits3_20pc" / "mislabel_detection.csv")
    assert len(table) == 6 and "mean area under the curve: grad_dot 0." in line
    assert (table.groupby("method")["area_under_curve"].mean() > 0.8).all()
