"""The list that is handed to a person: who stands first, and what is said of each example."""

from dataclasses import replace

import numpy as np
import torch
from conftest import Ensemble

from tda.debiasing.candidates import candidate_table, verdicts
from tda.debiasing.rankings import Alignment
from tda.statistics.group_alignment import example_statistics

MEANS = {"trak": [-5.0, 2.0, -0.01, -3.0, 2.0, 1.0], "if": [-4.0, -5.0, 3.0, -2.0, 0.01, 1.0]}


def alignment(method: str, groups: str = "known") -> Alignment:
    noise = np.random.default_rng(len(method)).normal(size=(4, 6))
    sample = np.array(MEANS[method]) + 0.2 * (noise - noise.mean(axis=0))
    return Alignment(method, groups, sample, example_statistics(sample))


def test_verdicts_are_what_q_tells_from_noise():
    assert verdicts(alignment("trak"), 0.01).tolist() == ["harmful", "helpful", "unclear", "harmful", "helpful", "helpful"]


def test_those_that_most_call_harmful_stand_first(ensemble: Ensemble):
    study = ensemble.study
    truth = study.train.labels.clone()
    truth[[0, 3]] = torch.tensor([-1, 2])
    train = replace(study.train, files=np.array([f"train/{n}.png" for n in range(6)]), true_labels=truth)
    train = replace(train, groups=np.array(["x", "y"] * 3))
    found = candidate_table(
        study.task,
        train,
        [alignment("trak"), alignment("if", "auto")],
        {"loss": np.arange(6.0), "confident_learning": np.array([True, False, False, False, False, False])},
        {"prediction": np.array([2, 1, 0, 0, 1, 2])},
        0.01,
    )
    order = [study.train.indices.tolist().index(index) for index in found["index"]]
    assert order[:3] == [0, 3, 1] and sorted(order) == list(range(6))
    first = found.iloc[0]
    assert first["verdicts_harmful"] == 3 and found["verdicts_harmful"].tolist()[1:] == [2, 1, 0, 0, 0]
    assert first["file"] == "train/0.png" and first["group"] == "x" and first["prediction"] == "2"
    assert first["true_class"] == "none of the task" and found.iloc[1]["true_class"] == "2"
    np.testing.assert_array_equal(found["is_wrong"], np.isin(order, [0, 3]))
    assert {f"{title}_{part}" for title in ("trak", "if_auto") for part in ("mean", "std", "q", "verdict")} <= set(
        found.columns
    )
    np.testing.assert_allclose(found["if_auto_mean"], np.array(MEANS["if"])[order], atol=1e-12)
    # Of equal numbers of verdicts, the mean rank of both methods decides.
    ranks = [np.argsort(np.argsort(MEANS[method])) for method in ("trak", "if")]
    rest = order[3:]
    assert [sum(rank[position] for rank in ranks) for position in rest] == sorted(sum(r[p] for r in ranks) for p in rest)
