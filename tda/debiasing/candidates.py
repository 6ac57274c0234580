"""The list that one hands to a person who looks at labels: every training example with what each method says of it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tda.data.splits import Split
from tda.data.tasks import Task
from tda.debiasing.rankings import Alignment

HARMFUL, HELPFUL, UNCLEAR = "harmful", "helpful", "unclear"


def verdicts(alignment: Alignment, level: float) -> np.ndarray:
    """A word (n,) for each example: harmful or helpful where its mean can be told from 0 at this level of q, else unclear."""
    found = np.where(alignment.statistics.mean < 0, HARMFUL, HELPFUL)
    return np.where(alignment.statistics.q_value < level, found, UNCLEAR)


def candidate_table(
    task: Task,
    train: Split,
    alignments: Sequence[Alignment],
    signals: dict[str, np.ndarray],
    predicted: dict[str, np.ndarray],
    level: float,
) -> pd.DataFrame:
    """A row for each training example, those that most verdicts call harmful first, then by the mean rank of the alignments.

    signals: numbers (n,) by column; predicted: labels (n,) by column, which are written as class names; a column of booleans
    among the signals is a verdict, True for harmful. Alignments give <method>_mean, _std, _q and _verdict.
    """
    names = np.array([*task.class_names, "none of the task"], dtype=str)
    columns: dict[str, np.ndarray] = {"index": train.indices.numpy()}
    if train.files is not None:
        columns["file"] = train.files
    columns |= {"label": train.labels.numpy(), "class": names[train.labels.numpy()]}
    if train.groups is not None:
        columns["group"] = train.groups
    if train.true_labels is not None:
        columns["true_class"] = names[train.true_labels.numpy()]
        columns["is_wrong"] = train.true_labels.numpy() != train.labels.numpy()
    votes, ranks = np.zeros(len(train), dtype=np.int64), np.zeros(len(train))
    for alignment in alignments:
        found = verdicts(alignment, level)
        statistics = alignment.statistics
        for name, values in (("mean", statistics.mean), ("std", statistics.std), ("q", statistics.q_value), ("verdict", found)):
            columns[f"{alignment.title}_{name}"] = values
        votes += found == HARMFUL
        ranks += np.argsort(np.argsort(statistics.mean, kind="stable"), kind="stable")
    for name, values in signals.items():
        columns[name] = values
        votes += values if values.dtype == bool else 0
    columns |= {name: names[labels] for name, labels in predicted.items()}
    table = pd.DataFrame(columns)
    table.insert(table.columns.get_loc("class") + 1, "verdicts_harmful", votes)
    return table.iloc[np.lexsort((ranks, -votes))].reset_index(drop=True)
