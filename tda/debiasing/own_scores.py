"""Scores of training examples that a person brings in a file, as a selection beside those of the project."""

from pathlib import Path

import numpy as np
import pandas as pd

from tda.data.splits import Split
from tda.system.errors import UserError
from tda.system.files import reading

INDEX, SCORE = "index", "score"


def read_own_scores(path: Path, train: Split) -> np.ndarray:
    """Scores (n,) float64 of a CSV with the columns index and score, the lowest of the example that should go first.

    Raises UserError, which names the file, if it is missing, unreadable or without a finite score for each training example.
    """
    try:
        with reading(path):
            table = pd.read_csv(path)
        scores = pd.Series(table[SCORE].to_numpy(np.float64), index=table[INDEX].to_numpy(np.int64))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; --own_scores names CSV files with the columns {INDEX} and {SCORE}") from error
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} has no columns {INDEX} and {SCORE} with numbers; mend it") from error
    if scores.index.has_duplicates:
        raise UserError(f"{path} names training example {scores.index[scores.index.duplicated()][0]} more than once")
    found = scores.reindex(train.indices.numpy()).to_numpy()
    if not np.isfinite(found).all():
        raise UserError(f"{path} has no finite score for training example {int(train.indices[~np.isfinite(found)][0])}")
    return found
