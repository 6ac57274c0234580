"""Brittleness: retrain without the most helpful examples of a test example, and see how far its margin falls."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tda.debiasing.removal import RANDOM, outputs_without, random_ranking, removal_effect
from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import experiment_of
from tda.figures.removal import draw_removal
from tda.figures.saving import save_figure
from tda.scores.ensemble_scores import ensemble_scores
from tda.scores.score_files import check_data, load_scores, methods_on_disk
from tda.scores.tables import write_table
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.study import Study, open_study


@dataclass
class RemovalSettings:
    """The arguments of the removal script."""

    experiment: str = "mlp_mnist_500pc"
    """Folder below results/ to analyse, <model>_<task>_<num_per_class>pc."""
    shares: str = "0.01,0.05"
    """Shares of the training set to remove, most helpful first."""
    num_test: int = 20
    """Test examples to explain: the first of the test subset, in which classes take turns."""
    num_seeds: int = 3
    """Retrainings of each removal, with the seeds of as many retrainings with nothing removed."""
    methods: str = ""
    """Methods to judge, such as trak,grad_dot; without it all on disk."""
    num_checkpoints: int = 5
    """A seed's score is the mean over this many of its last checkpoints, or over all where fewer are stored."""
    device: str = "auto"
    """Device to compute on: cpu, cuda, or auto for cuda where there is one."""


def evaluate_removal(settings: RemovalSettings) -> str:
    """Do the retrainings that are missing and write removal.csv, removal.png and .pdf; returns the closing line.

    Raises UserError for unusable settings, missing scores or foreign data.
    """
    prepare_process()
    folder = ResultsFolder(settings.experiment)
    study = open_study(experiment_of(folder), settings.device)
    counts = _removal_counts(settings.shares, len(study.train))
    if not 2 <= settings.num_test <= len(study.test):
        raise UserError(f"--num_test must lie in 2 to {len(study.test)}, the size of the test subset, not {settings.num_test}")
    if settings.num_seeds < 1:
        raise UserError(f"--num_seeds must be 1 or more, not {settings.num_seeds}")
    with study.step("removal", vars(settings)):
        names = settings.methods.split(",") if settings.methods else methods_on_disk(folder)
        rankings = {name: _ranking(study, name, settings) for name in names}
        rankings[RANDOM] = random_ranking(len(study.train), settings.num_test)
        rows = []
        base = outputs_without(study, [[]], settings.num_seeds)
        for name, ranking in rankings.items():
            for count in counts:
                removals = [order[:count].tolist() for order in ranking.T]
                after = outputs_without(study, removals, settings.num_seeds)
                rows.append({"method": name, "share": count / len(study.train), "removed": count} | removal_effect(base, after))
        table = pd.DataFrame(rows)
        by_chance = table[table["method"] == RANDOM].set_index("removed")["margin_fall"]
        table["times_random"] = table["margin_fall"] / by_chance.loc[table["removed"]].to_numpy()
        write_table(folder.path / "removal.csv", table)
        save_figure(draw_removal(table), folder.path / "removal")
    return f"wrote removal.csv and removal.png of {len(names)} methods and random removal to {folder.path}"


def _removal_counts(shares: str, num_train: int) -> list[int]:
    try:
        counts = [round(float(share) * num_train) for share in shares.split(",")]
    except ValueError as error:
        raise UserError(
            f"--shares are numbers between 0 and 1, separated by commas, such as 0.01,0.05, not {shares!r}"
        ) from error
    if not all(0 < count < num_train for count in counts):
        raise UserError(f"--shares {shares} of {num_train} training examples remove none or all of them; choose others")
    return counts


def _ranking(study: Study, method: str, settings: RemovalSettings) -> np.ndarray:
    """Positions of training examples, most helpful first: (n_train, num_test) int64, by the ensemble's score."""
    scores = load_scores(study.results, method)
    check_data(scores, study.hashes)
    values = ensemble_scores(scores, min(settings.num_checkpoints, len(scores.epochs)))
    return np.argsort(-values[:, : settings.num_test], axis=0, kind="stable")
