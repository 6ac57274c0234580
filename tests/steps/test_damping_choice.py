"""Choosing a damping: the table against plain formulas, and that the subsets that judge are never read."""

import numpy as np
import pandas as pd
import pytest
from conftest import EXPERIMENT, Ensemble, assert_refused, run_script
from scipy.stats import spearmanr
from tiny_model import score

from tda.training.retrainings import RetrainingStore
from tda.training.subset_draws import SubsetDraw, load_subset_outputs

FITTING = SubsetDraw("fitting", 0.5, 10, 2)


@pytest.fixture
def retrained(ensemble: Ensemble) -> Ensemble:
    """The tiny ensemble with retrainings of fitting subsets, and none of those that judge."""
    RetrainingStore(ensemble.study).fill(FITTING.retrainings(6), "test")
    return ensemble


def test_each_candidate_is_judged_on_the_fitting_subsets(retrained: Ensemble):
    arguments = ["--model", "cnn", "--task", "digits3", "--num_per_class", 2, "--num_subsets", 10, "--num_retrainings", 2]
    done = run_script(
        "run_damping_choice.py",
        *arguments,
        "--method",
        "if",
        "--setting",
        "damping",
        "--candidates",
        "0.01,5",
        root=retrained.root,
    )
    assert done.returncode == 0 and "highest LDS on fitting subsets" in done.stdout, done.stderr
    table = pd.read_csv(EXPERIMENT.results.path / "damping_choice_if.csv")
    assert table["value"].tolist() == [0.01, 5] and (table["setting"] == "damping").all()
    outputs = load_subset_outputs(RetrainingStore(retrained.study), FITTING)
    masks, margins = outputs.masks.double().numpy(), outputs.margins.numpy()
    whole = retrained.train, retrained.study.inputs(retrained.study.test)
    for row in table.itertuples():
        (scores,) = score("if", retrained.members(15), *whole, damping=row.value)
        predicted = masks @ scores.double().numpy()
        for target, found in ((margins.mean(axis=0)[None], row.lds), (margins, row.lds_single_retraining)):
            each = [spearmanr(predicted[:, t], one[:, t]).statistic for one in target for t in range(predicted.shape[1])]
            assert found == pytest.approx(np.nanmean(each), abs=1e-5)
        assert row.low <= row.lds <= row.high


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--setting", "damping"], ("method kernel_trajectory has no setting damping",)),
        (["--candidates", "a,1"], ("--candidates: a is not a number",)),
        (["--candidates", "1", "--num_subsets", "11"], ("retrainings", "run_subset_retraining.py", "--purpose fitting")),
        (["--seed_id", "7"], ("7",)),
    ],
)
def test_mistakes(retrained: Ensemble, arguments: list[str], words: tuple[str, ...]):
    shared = ["--model", "cnn", "--task", "digits3", "--num_per_class", 2, "--num_subsets", 10, "--num_retrainings", 2]
    assert_refused(run_script("run_damping_choice.py", *shared, *arguments, root=retrained.root), *words)
