"""How alike one seed's ranking of the training examples is to another's, by the last checkpoint's scores.

usage: python benchmarks/seed_agreement.py NUM_SEEDS experiment ...

Writes results/reference/<experiment>/seed_agreement.csv: for each method the mean Spearman correlation over the training
examples, over all pairs of the first seeds and all test examples. 0 where rankings of different seeds have nothing in common.
"""

import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from tda.experiments.folders import ResultsFolder
from tda.scores.score_files import load_score_file, methods_on_disk, score_paths

REFERENCE = Path(__file__).resolve().parent.parent / "results" / "reference"


def main(num_seeds: int, names: list[str]) -> None:
    """Write the table of every named experiment."""
    for name in names:
        folder = ResultsFolder(name)
        rows = []
        for method in methods_on_disk(folder):
            paths = score_paths(folder, method)
            last = max(epoch for _, epoch in paths)
            ranks = [standard_ranks(load_score_file(paths[seed_id, last])[0]) for seed_id in range(num_seeds)]
            found = [(left * right).mean(axis=0).mean() for left, right in combinations(ranks, 2)]
            rows.append({"method": method, "seeds": num_seeds, "epoch": last, "spearman_between_seeds": np.mean(found)})
        table = pd.DataFrame(rows)
        table.to_csv(REFERENCE / name / "seed_agreement.csv", index=False, float_format="%.4g", lineterminator="\n")


def standard_ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks of each column (n_train, n_test) float32, with mean 0 and standard deviation 1; 0 where all scores are equal."""
    ranks = rankdata(scores, axis=0).astype(np.float32)
    ranks -= ranks.mean(axis=0)
    return ranks / np.maximum(ranks.std(axis=0), np.finfo(np.float32).tiny)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
