"""Step 5: how far the methods agree on the mean, the spread and the p-value of every (train, test) pair."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata

from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import experiment_of, step
from tda.figures.analysis import draw_correlations, save_figure
from tda.scores.score_files import Scores, load_scores, methods_on_disk
from tda.statistics.pair_statistics import PairStatistics, pair_statistics
from tda.system.errors import UserError
from tda.system.files import write_text

_STATISTICS = {
    "mean": ("mean", "mean score over seeds"),
    "std": ("std", "standard deviation over seeds"),
    "pvalue": ("p_value", "p-value of the t-test over seeds"),
}


def correlate_methods(folder: ResultsFolder, num_checkpoints: int, arguments: dict) -> str:
    """Write the correlation matrices and heat maps of all methods on disk; returns the closing line.

    A seed's score is the mean over its last `num_checkpoints` epochs, or all where fewer are stored. `arguments` go into
    the manifest. Raises UserError if the experiment or its scores are missing or damaged, or if methods cannot be compared.
    """
    if num_checkpoints < 1:
        raise UserError(f"--num_checkpoints {num_checkpoints} is too small; choose 1 or more")
    hashes: dict[str, str] = {}
    with step(experiment_of(folder), "correlations", arguments, hashes, torch.device("cpu")):
        names = methods_on_disk(folder)
        if len(names) < 2:
            raise UserError(f"a correlation needs two methods, but {folder.path} has scores of {names[0]} alone; score another")
        methods, first = [], load_scores(folder, names[0])
        for name in names:
            scores = first if name == names[0] else load_scores(folder, name)
            check_comparable(first, scores)
            methods.append(pair_statistics(scores, min(num_checkpoints, len(scores.epochs))))
        hashes |= first.metadata["data"]
        for short, (field, title) in _STATISTICS.items():
            _write_correlations(folder, short, title, methods, field)
    return (
        f"wrote correlations of {len(names)} methods over the last {methods[0].num_checkpoints} checkpoints, as "
        f"correlation_*.csv, .png and .pdf, to {folder.path}"
    )


def check_comparable(first: Scores, second: Scores) -> None:
    """Raise UserError, naming both methods, unless they scored the same members on the same examples."""
    same = {
        "seeds": first.seed_ids == second.seed_ids,
        "epochs": first.epochs == second.epochs,
        "training examples": np.array_equal(first.train_indices, second.train_indices),
        "test examples": np.array_equal(first.test_indices, second.test_indices),
        "data": first.metadata["data"] == second.metadata["data"],
    }
    for what, agrees in same.items():
        if not agrees:
            raise UserError(
                f"methods {first.method} and {second.method} cannot be compared: they have scores of different {what}; "
                f"run the script of the one that is incomplete or out of date"
            )


def pearson(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Pearson correlation (m, m) of m arrays of equal size; NaN where an array is constant, for then it is undefined."""
    flat = np.stack([array.ravel() for array in arrays])
    constant = flat.min(axis=1) == flat.max(axis=1)
    # Each array is brought to the scale of 1, so that squares of the smallest scores do not vanish.
    largest = np.where(constant, 1.0, np.abs(flat).max(axis=1))
    scaled = flat / largest[:, None]
    centred = scaled - scaled.mean(axis=1, keepdims=True)
    length = np.where(constant, np.nan, np.linalg.norm(centred, axis=1))
    return np.clip(centred @ centred.T / np.outer(length, length), -1, 1)


def spearman(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Spearman rank correlation (m, m) of m arrays of equal size, ties sharing their mean rank; NaN as in pearson."""
    return pearson([rankdata(array) for array in arrays])


def _write_correlations(folder: ResultsFolder, short: str, title: str, methods: Sequence[PairStatistics], field: str) -> None:
    names = [method.method for method in methods]
    arrays = [getattr(method, field) for method in methods]
    matrices = {}
    for kind, correlate in (("Pearson", pearson), ("Spearman", spearman)):
        matrices[kind] = pd.DataFrame(correlate(arrays), index=pd.Index(names, name="method"), columns=names)
        write_text(folder.path / f"correlation_{kind.lower()}_{short}.csv", matrices[kind].to_csv(float_format="%.6g"))
    path = folder.path / f"correlation_{short}.png"
    save_figure(draw_correlations(matrices, f"Agreement of methods: {title}"), path, path.with_suffix(".pdf"))
