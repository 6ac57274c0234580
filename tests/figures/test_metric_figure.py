"""The picture of score_metrics.csv: a panel a metric, scores by their names, and intervals that are missing."""

import numpy as np
import pandas as pd

from tda.figures.score_metrics import draw_score_metrics, score_title


def test_a_panel_for_each_metric_with_every_score():
    rows = [
        ("wrong_labels_auc", "loss", "one", 0.8, 0.7, 0.9),
        ("wrong_labels_auc", "loss", "mean", 0.85, 0.8, 0.9),
        ("wrong_labels_auc", "self_influence_trak", "one", 0.6, 0.5, 0.7),
        ("overlap", "grad_dot", "one", 0.3, np.nan, np.nan),
    ]
    table = pd.DataFrame(rows, columns=["metric", "score", "seeds", "value", "low", "high"]).assign(chance=0.5)
    figure = draw_score_metrics(table)
    areas, overlap = figure.axes
    assert areas.get_title().startswith("wrong labels") and overlap.get_title().startswith("overlap")
    assert [label.get_text() for label in areas.get_yticklabels()] == ["self-influence, TRAK", "loss"]
    assert [label.get_text() for label in overlap.get_yticklabels()] == ["Grad-Dot"]
    means = next(line for line in areas.containers if line.get_label() == "mean over seeds")
    assert means.lines[0].get_xdata().tolist() == [0.85]


def test_a_missing_interval_is_not_drawn_as_one_without_length():
    rows = [("overlap", "grad_dot", "one", 0.3, np.nan, np.nan), ("overlap", "grad_cos", "one", 0.4, 0.3, 0.6)]
    table = pd.DataFrame(rows, columns=["metric", "score", "seeds", "value", "low", "high"]).assign(chance=0.5)
    [panel] = draw_score_metrics(table).axes
    points, caps, [bars] = panel.containers[0].lines
    assert points.get_xdata().tolist() == [0.3, 0.4]
    assert [len(bar) for bar in bars.get_segments()] == [0, 2]
    assert [np.isnan(cap.get_xdata().astype(float)).tolist() for cap in caps] == [[True, False]] * 2


def test_names_for_people():
    assert score_title("mean_score_grad_cos") == "mean score, Grad-Cos"
    assert score_title("kernel_posterior") == "kernel posterior" and score_title("trak") == "TRAK"
