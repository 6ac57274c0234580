"""Score files of more methods, made of those of grad_dot: the same scores with noise. Run with the checkout on PYTHONPATH.

usage: PYTHONPATH=CHECKOUT python benchmarks/stand_in_scores.py FOLDER_OF_SCORES METHOD,METHOD,...

Each version of the project writes them with its own save_scores, so that each analyses files as it would have written them. The
noise depends on method, seed and epoch alone: two versions that agree on grad_dot agree on all.
"""

import importlib
import sys
from pathlib import Path

import numpy as np

try:
    from tda.scores.score_files import load_score_file, save_scores
except ModuleNotFoundError:
    # Where versions without rooms keep them.
    earlier = importlib.import_module("tda.scores")
    load_score_file, save_scores = earlier.load_score_file, earlier.save_scores

SOURCE = "grad_dot"
SIZES = (0.05, 0.3, 1.0, 3.0)
"""Standard deviations of the noise, in turn, in units of that of the scores."""


def main(folder: Path, methods: list[str]) -> None:
    """Write files of every method beside those of the source."""
    for path in sorted((folder / SOURCE).rglob("*.parquet")):
        values, train_indices, test_indices, metadata = load_score_file(path)
        for number, method in enumerate(methods):
            generator = np.random.default_rng([number, metadata["seed_id"], metadata["epoch"]])
            noise = generator.normal(scale=values.std() * SIZES[number % len(SIZES)], size=values.shape)
            changed = {key: value for key, value in metadata.items() if key != "sha256"} | {"method": method}
            target = folder / method / path.relative_to(folder / SOURCE)
            save_scores(target, (values + noise).astype(np.float32), train_indices, test_indices, changed)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","))
