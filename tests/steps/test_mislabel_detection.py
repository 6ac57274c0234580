"""How well self-influence finds flipped labels."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import EXPERIMENT, Ensemble, named, run_here

from tda.data.index_files import write_subset
from tda.data.tasks import task_named
from tda.system.errors import UserError


def test_self_influence_finds_flipped_labels(ensemble: Ensemble):
    """A tenth of 60 labels is wrong; three seeds."""
    write_subset(task_named("digits3"), "train", 20, draw_seed=0, force=False)
    chosen = {"model": "cnn", "task": "digits3", "num_per_class": 20, "methods": ("grad_dot", "trak")}
    line = run_here("run_mislabel_detection.py", **chosen)
    table = pd.read_csv(EXPERIMENT.results.path.parent / "cnn_digits3_20pc" / "mislabel_detection.csv")
    assert len(table) == 6 and "mean area under the curve: grad_dot 0." in line
    assert (table.groupby("method")["area_under_curve"].mean() > 0.8).all()


def test_seeds_and_methods_that_come_one_by_one_share_a_table(ensemble: Ensemble):
    """As processes do that divide the seeds among them."""
    path = EXPERIMENT.results.path / "mislabel_detection.csv"
    chosen = named(EXPERIMENT) | {"share": 0.3}
    for seed_id, method in ((0, "grad_dot"), (1, "grad_dot"), (1, "repsim")):
        line = run_here("run_mislabel_detection.py", methods=(method,), seed_id=seed_id, **chosen)
    apart = pd.read_csv(path)
    assert list(zip(apart["method"], apart["seed_id"], strict=True)) == [("grad_dot", 0), ("grad_dot", 1), ("repsim", 1)]
    assert "grad_dot 0." in line and "repsim 0." in line
    path.unlink()
    run_here("run_mislabel_detection.py", methods=("grad_dot",), **chosen)
    together = pd.read_csv(path)
    pd.testing.assert_frame_equal(together[together["seed_id"] < 2].reset_index(drop=True), apart.iloc[:2])


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        (
            ("grad_dot", "trak_trajectory"),
            "trak_trajectory cannot look for changed labels: it needs checkpoints of early epochs",
        ),
        ((), "--methods names no method to judge"),
    ],
)
def test_methods_that_cannot_be_judged_are_refused_before_members_are_trained(
    root: Path, monkeypatch: pytest.MonkeyPatch, methods: tuple[str, ...], words: str
):
    monkeypatch.setattr("tda.steps.mislabel_detection.members_in_memory", None)
    with pytest.raises(UserError, match=words):
        run_here("run_mislabel_detection.py", methods=methods, share=0.3, **named(EXPERIMENT))
