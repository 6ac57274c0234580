"""Curves of debiasing and galleries: every row is drawn at its place, every example with what is said of it."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_texts import encode

from tda.data.kinds import TextKind
from tda.data.splits import Split
from tda.data.tasks import task_named
from tda.debiasing.rankings import Ranking
from tda.figures.debiasing import draw_debiasing
from tda.figures.galleries import draw_first, draw_gallery


def row(selection: str, number: str, share: float, accuracy: float, method: str = "-", action: str = "remove") -> dict:
    return {
        **{"selection": selection, "method": method, "groups": "-", "action": action, "number": number, "share": share},
        **{
            "removed": round(100 * share),
            "accuracy": accuracy,
            "accuracy_low": accuracy - 0.1,
            "accuracy_high": accuracy + 0.2,
        },
    }


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [row("nothing", "-", 0.0, 0.8, action="-"), row("random", "5%", 0.05, 0.79), row("random", "7 examples", 0.07, 0.7)]
    rows += [row("negative", "10%", 0.1, 0.85, "trak"), row("negative", "5%", 0.05, 0.82, "trak")]
    rows += [row("negative", "significant", 0.07, 0.84, "trak"), row("highest_loss", "5%", 0.05, 0.6, action="relabel")]
    return pd.DataFrame(rows)


def test_each_action_has_a_panel_with_curves_over_shares(table: pd.DataFrame):
    left, right = draw_debiasing(table, "accuracy").axes
    curves = {line.get_label(): line.get_xydata().tolist() for line in left.lines if not line.get_label().startswith("_")}
    assert curves["negative, TRAK"] == [[0.05, 0.82], [0.1, 0.85]] and curves["random"] == [[0.05, 0.79]]
    assert set(curves["nothing: all examples"][0]) == {0.0, 0.8}
    # What is significant is no share: a marker with its interval, beside the curve.
    (bars,) = left.containers
    assert np.asarray(bars[0].get_xydata()).tolist() == [[0.07, 0.84]]
    (segment,) = bars[2][0].get_segments()
    np.testing.assert_allclose(segment[:, 1], [0.74, 1.04])
    assert "highest loss" in {line.get_label() for line in right.lines}
    assert left.get_ylabel() == "accuracy" and "another label" in right.get_xlabel()


def test_a_gallery_shows_the_first_to_go_with_label_prediction_truth_and_value():
    task = task_named("digits3")
    labels, truth = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 0, -1])
    split = Split(torch.rand(4, 1, 28, 28), labels, 10 + torch.arange(4), true_labels=truth)
    ranking = Ranking("negative", "trak", "known", np.array([0.5, -2.0, 7.0, -3.0]), {"5%": 1})
    figure = draw_first(task, split, ranking, np.array([0, 1, 0, 2]), shown=3)
    (canvas,) = figure.axes
    texts = [text.get_text() for text in canvas.texts]
    assert texts[0] == "first to go: negative, trak, known"
    assert texts[1:] == ["0 (#13)", "predicted: 2\ntruly: none\n-3", "1 (#11)", "predicted: 1\ntruly: 1\n-2", *texts[5:]]
    assert texts[5:] == ["0 (#10)", "predicted: 0\ntruly: 0\n0.5"] and len(canvas.images) == 3
    np.testing.assert_allclose(canvas.images[0].get_array(), split.inputs[3, 0], rtol=1e-6)


def test_a_gallery_of_texts_with_files():
    kind = TextKind(encode, lambda tokens: "a text")
    files = np.array([f"reviews/{number}.txt" for number in range(12)])
    split = Split(encode(["a dog runs"] * 12), torch.zeros(12, dtype=torch.int64), torch.arange(12), files)
    figure = draw_gallery(kind, split, list(range(12)), "title", ["heading"] * 12, ["caption"] * 12)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("a text") == 12 and "reviews/11.txt" in texts and not figure.axes[0].images
