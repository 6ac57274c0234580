"""What scores are good for, as a picture: a panel a metric, a bar a score, with intervals and what guessing has."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tda.figures.style import styled
from tda.methods.catalogue import method_title

_PREFIXES = {"self_influence_": "self-influence, ", "mean_score_": "mean score, "}
_TITLES = {
    "wrong_labels_auc": "wrong labels: area under the curve",
    "wrong_labels_average_precision": "wrong labels: average precision",
    "wrong_labels_precision": "wrong labels: precision at their number",
    "class": "highest of the test example's class",
    "group": "highest of the test example's group",
    "overlap": "overlap of the highest of two seeds (Jaccard)",
    "randomised": "rank correlation with a shuffled model",
    "randomised_same_class": "the same among training examples of the test example's class",
}


@styled()
def draw_score_metrics(table: pd.DataFrame) -> Figure:
    """A panel for each metric of score_metrics.csv: values of one seed, and of the mean over seeds where there is one."""
    metrics = [name for name in _TITLES if name in set(table["metric"])]
    heights = [0.8 + 0.26 * table.loc[table["metric"] == metric, "score"].nunique() for metric in metrics]
    figure = Figure(figsize=(7.2, sum(heights) + 0.4 * len(heights)), layout="constrained")
    panels = figure.subplots(len(metrics), 1, squeeze=False, height_ratios=heights)[:, 0]
    for metric, panel in zip(metrics, panels, strict=True):
        rows = table[table["metric"] == metric]
        order = rows.groupby("score")["value"].max().sort_values(kind="stable").index
        places = {score: place for place, score in enumerate(order)}
        for seeds, marker, label in (("one", "o", "one seed"), ("mean", "D", "mean over seeds")):
            some = rows[rows["seeds"] == seeds]
            if len(some):
                heights_of = some["score"].map(places) + (0.15 if seeds == "mean" else -0.15)
                errors = np.stack((some["value"] - some["low"], some["high"] - some["value"])).clip(0)
                panel.errorbar(some["value"], heights_of, xerr=errors, fmt=marker, markersize=4, capsize=2, label=label)
        panel.axvline(float(rows["chance"].iloc[0]), color="grey", linestyle=":", linewidth=1, label="by chance")
        panel.set_yticks(range(len(order)), [score_title(score) for score in order], fontsize=7)
        panel.set_title(_TITLES[metric], fontsize=9)
        panel.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def score_title(score: str) -> str:
    """A score's name for people."""
    for prefix, words in _PREFIXES.items():
        if score.startswith(prefix):
            return words + method_title(score.removeprefix(prefix))
    return method_title(score).replace("_", " ")
