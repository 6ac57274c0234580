"""Is a mixture of two methods' scores a better judge of retraining than either? Its share is chosen on fitting subsets.

    python benchmarks/blended_scores.py --experiment mlp_mnist_500pc --first kernel_trajectory --second unrolled

Reads score files of both methods and the retrainings of `run_subset_retraining.py`, those of purpose fitting too. Each
method's scores of a test example are brought to unit length over the training examples; the mixture is (1 - share) times
the first plus share times the second. The share is the best of eleven on the fitting subsets, by scores of seed 0 alone;
the evaluation subsets, of other retrainings, are then used once. Writes blended_scores.csv into the experiment's results.
"""

import argparse

import numpy as np
import pandas as pd

from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import experiment_of
from tda.scores.ensemble_scores import ensemble_scores
from tda.scores.fresh_scores import fresh_scores, read_checkpoints
from tda.scores.score_files import Scores
from tda.scores.tables import write_table
from tda.statistics.linear_datamodeling_score import lds, lds_of_each, predictions
from tda.training.retrainings import RetrainingStore
from tda.training.study import open_study
from tda.training.subset_draws import SubsetDraw, load_subset_outputs

SHARES = np.linspace(0, 1, 11)


def main() -> None:
    """Choose the share, judge both methods and the mixture, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--first", default="kernel_trajectory")
    parser.add_argument("--second", default="unrolled")
    parser.add_argument("--num_fitting", type=int, default=100, help="fitting subsets, of one retraining each")
    parser.add_argument("--num_subsets", type=int, default=100, help="evaluation subsets")
    parser.add_argument("--num_retrainings", type=int, default=6, help="retrainings of each evaluation subset")
    parser.add_argument("--num_seeds", type=int, help="only the first so many members")
    chosen = parser.parse_args()
    study = open_study(experiment_of(ResultsFolder(chosen.experiment)), "cpu")
    store, checkpoints = RetrainingStore(study), read_checkpoints(study.experiment)
    both = [fresh_scores(checkpoints, name, study.hashes, chosen.num_seeds) for name in (chosen.first, chosen.second)]
    fitting = load_subset_outputs(store, SubsetDraw("fitting", 0.5, chosen.num_fitting, 1))
    judging = load_subset_outputs(store, SubsetDraw("evaluation", 0.5, chosen.num_subsets, chosen.num_retrainings))
    masks, margins = fitting.masks.numpy(), fitting.margins.numpy()[0]
    found = [lds_of_each(predictions(masks, mixed(both, [0], share)), margins).mean() for share in SHARES]
    best = float(SHARES[int(np.argmax(found))])
    print("on fitting subsets: " + ", ".join(f"{share:.1f}: {value:.3f}" for share, value in zip(SHARES, found, strict=True)))
    rows = []
    masks, margins = judging.masks.numpy(), judging.margins.numpy()
    for title, share in ((chosen.first, 0.0), (chosen.second, 1.0), ("mixture", best)):
        seeds = range(min(len(scores.seed_ids) for scores in both))
        for members, groups in ((1, [[seed] for seed in seeds]), (len(seeds), [list(seeds)])):
            predicted = [predictions(masks, mixed(both, group, share)) for group in groups]
            single = float(np.mean([lds_of_each(one, target) for one in predicted for target in margins]))
            row = {"scores": title, "share_of_second": share, "members": members, "lds_single_retraining": single}
            rows.append(row | lds(predicted, margins.mean(axis=0)).columns("lds"))
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    write_table(study.results.path / "blended_scores.csv", table)


def mixed(both: list[Scores], seeds: list[int], share: float) -> np.ndarray:
    """The mixture (n_train, n_test) of the two methods' scores of an ensemble of these seeds, at their last checkpoint."""
    first, second = (ensemble_scores(scores.of_seeds(seeds), 1) for scores in both)
    return (1 - share) * first / _length(first) + share * second / _length(second)


def _length(scores: np.ndarray) -> np.ndarray:
    return np.linalg.norm(scores, axis=0, keepdims=True)


if __name__ == "__main__":
    main()
