"""Orders of training examples: each signal's, in the direction in which it tells harm, with the numbers that are tried."""

import numpy as np

from tda.debiasing.evidence import Evidence
from tda.debiasing.rankings import SELECTIONS, Alignment
from tda.statistics.group_alignment import example_statistics

SHARES = {"25%": 2}
LABELS, GROUPS = np.array([0, 0, 0, 0, 0, 1, 1, 1]), np.array(["a"] * 6 + ["b"] * 2)


def evidence() -> Evidence:
    sample = np.random.default_rng(0).normal(size=(4, 8))
    signals = {
        "loss": np.arange(8.0),
        "self_influence_grad_dot": np.arange(8.0)[::-1],
        "forgetting": np.array([0, 3.0, 0, 0, 1, 0, 0, 0]),
        "neighbours_of_other_labels": np.linspace(0, 1, 8),
        "label_quality": np.linspace(0.1, 0.9, 8),
        "confident_learning": np.array([False, True, True, True, False, False, False, False]),
    }
    return Evidence(
        [Alignment("trak", "known", sample, example_statistics(sample))], signals, {"out_of_fold_prediction": LABELS}
    )


def test_every_selection_has_its_order_and_its_numbers():
    found = evidence().rankings(SELECTIONS, SHARES, 0.05, LABELS, GROUPS)
    named = {(each.selection, each.method, *each.counts): each for each in found}
    first = {key: np.argsort(each.values)[0] for key, each in named.items() if each.values is not None}
    assert first["highest_loss", "-", "25%"] == 7 and first["self_influence", "grad_dot", "25%"] == 0
    assert first["forgetting", "-", "25%"] == 1 and first["neighbours", "-", "25%"] == 7
    assert first["confident_learning", "-", "25%"] == 0 and first["confident_learning", "-", "flagged"] == 1
    assert named["confident_learning", "-", "flagged"].counts == {"flagged": 3}
    assert named["class_balanced", "-", "balance"].counts == {"balance": 2}
    assert named["group_balanced", "-", "balance"].counts == {"balance": 4}
    assert all(each.values is None for key, each in named.items() if key[0].endswith("balanced"))


def test_what_is_not_chosen_is_not_tried():
    found = evidence().rankings(("highest_loss",), SHARES, 0.05, LABELS, None)
    assert [each.selection for each in found] == ["highest_loss"]
    assert evidence().rankings(("class_balanced",), {}, 0.05, np.array([0, 1] * 4), None) == []
