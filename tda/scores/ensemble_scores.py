"""An ensemble's score, one number a (training, test) pair, made of its members' score files.

For most methods it is the mean over members. TRAK takes the means of two factors apart and multiplies them (Park et al. 2023);
a method is treated so if its files report a "train_factor" (n_train,), by which their scores are products. p-values are of
members' scores, which stay as they are; the ensemble's score is the one to rank training examples by.
"""

import numpy as np

from tda.experiments.folders import Experiment
from tda.scores.fresh_scores import fresh_scores, read_checkpoints, score_identity
from tda.scores.score_files import Scores, save_scores


def ensemble_scores(scores: Scores, num_checkpoints: int) -> np.ndarray:
    """The score (n_train, n_test) float64 of the ensemble of every seed's last checkpoints; positive = helpful."""
    epochs = scores.epochs[-num_checkpoints:]
    values = scores.values[:, -num_checkpoints:].astype(np.float64)
    reports = [[scores.reports[seed_id, epoch] for epoch in epochs] for seed_id in scores.seed_ids]
    if not all("train_factor" in report for by_epoch in reports for report in by_epoch):
        return values.mean(axis=(0, 1))
    factors = np.array([[report["train_factor"] for report in by_epoch] for by_epoch in reports])[..., None]
    return factors.mean(axis=(0, 1)) * (values / factors).mean(axis=(0, 1))


def write_ensemble_scores(experiment: Experiment, method: str) -> str:
    """Write results/<experiment>/ensemble_scores_<method>.parquet, of all members, like a score file; returns a closing line.

    Its metadata hold the identity of the score files that it is made of. Raises UserError as fresh_scores and save_scores do.
    """
    scores = fresh_scores(read_checkpoints(experiment), method)
    metadata = {key: scores.metadata[key] for key in ("method", "citation", "settings", "experiment", "data")}
    metadata |= {"seed_id": scores.seed_ids, "epoch": scores.epochs, "made_from": score_identity(experiment, method)}
    path = experiment.results.ensemble_score_file(method)
    save_scores(path, ensemble_scores(scores, len(scores.epochs)), scores.train_indices, scores.test_indices, metadata)
    return (
        f"wrote the ensemble's scores, of {len(scores.seed_ids)} seeds and {len(scores.epochs)} checkpoints of each, to {path}"
    )
