"""Which texts a method finds for each asked fact, how well, and whether what it finds can be told from noise."""

import numpy as np
import pandas as pd

from tda.data.kinds import shown_inputs
from tda.data.splits import Split
from tda.data.task_entry import Task
from tda.facts.asked_facts import AskedFacts
from tda.methods.catalogue import means_helpful
from tda.statistics.intervals import bootstrap_mean
from tda.statistics.retrieval import recalls, reciprocal_ranks
from tda.statistics.target_scores import TargetScores


def row_of_finding(method: str, scores: np.ndarray, asked: AskedFacts, found: int) -> dict:
    """How well scores (n_train, F) find the stating texts: mean reciprocal rank and recall, with intervals over facts."""
    rank = bootstrap_mean(reciprocal_ranks(scores, asked.states))
    recall = bootstrap_mean(recalls(scores, asked.states, found))
    row = {"method": method, "facts": len(asked), "found": found}
    return row | rank.columns("mrr", "mrr_low", "mrr_high") | recall.columns("recall", "recall_low", "recall_high")


def row_of_reliability(found: TargetScores, asked: AskedFacts, level: float) -> dict:
    """Shares of stating pairs that help significantly, of all others that do, and of these that state.

    NaN where q is unknown, and for similarities, of which every seed's may be positive without meaning help.
    """
    names = ("significant_of_stating", "significant_of_others", "stating_of_significant")
    if np.isnan(found.q).any() or not means_helpful(found.method):
        return dict.fromkeys(names, np.nan)
    significant = found.significant(level)
    both = significant & asked.states
    count = significant.sum()
    shares = (
        significant[asked.states].mean(),
        significant[~asked.states].mean(),
        both.sum() / count if count else np.nan,
    )
    return dict(zip(names, shares, strict=True))


def text_rows(task: Task, train: Split, asked: AskedFacts, found: TargetScores, count: int) -> pd.DataFrame:
    """The first `count` texts for each fact, the largest score first."""
    rows = []
    order = np.argsort(-found.scores, axis=0, kind="stable")[:count]
    for fact, name in enumerate(asked.names):
        for place, text in enumerate(order[:, fact], start=1):
            rows.append(
                {
                    "fact": name,
                    "method": found.method,
                    "place": place,
                    "train_idx": int(train.indices[text]),
                    "score": found.scores[text, fact],
                    "mean": found.mean[text, fact],
                    "std": found.std[text, fact],
                    "q": found.q[text, fact],
                    "states_it": bool(asked.states[text, fact]),
                    "text": shown_inputs(task.kind, train.inputs, int(text))[1],
                }
            )
    return pd.DataFrame(rows)
