"""Flipped labels, and how well self-influence finds them."""

import pandas as pd
import pytest
import torch
from conftest import EXPERIMENT, Ensemble

from tda.data.index_files import write_subset
from tda.data.tasks import task_named
from tda.steps.mislabel_detection import MislabelSettings, area_under_curve, detect_mislabels, flip_labels
from tda.system.errors import UserError


def test_a_share_of_the_labels_is_another_class(ensemble: Ensemble):
    split, flipped = flip_labels(ensemble.test, 1 / 3, 3)
    assert flipped.sum() == 7 and torch.equal(split.labels != ensemble.test.labels, flipped)
    assert ((split.labels >= 0) & (split.labels < 3)).all() and torch.equal(split.inputs, ensemble.test.inputs)
    assert torch.equal(flip_labels(ensemble.test, 1 / 3, 3)[0].labels, split.labels)
    with pytest.raises(UserError, match="--share 0.01 flips none"):
        flip_labels(ensemble.test, 0.01, 3)


def test_area_under_the_curve_is_the_share_of_pairs_in_order():
    flipped = torch.tensor([True, False, True, False])
    assert area_under_curve(torch.tensor([3.0, 2.0, 1.0, 0.0]), flipped) == 0.75
    assert area_under_curve(torch.ones(4), flipped) == 0.5


def test_self_influence_finds_flipped_labels(ensemble: Ensemble):
    """A tenth of 60 labels is wrong; three seeds."""
    write_subset(task_named("digits3"), "train", 20, draw_seed=0, force=False)
    settings = MislabelSettings(model="cnn", task="digits3", num_per_class=20, methods="grad_dot,trak", device="cpu")
    line = detect_mislabels(settings)
    table = pd.read_csv(EXPERIMENT.results.path.parent / "cnn_digits3_20pc" / "mislabel_detection.csv")
    assert len(table) == 6 and "mean area under the curve: grad_dot 0." in line
    assert (table.groupby("method")["area_under_curve"].mean() > 0.8).all()
