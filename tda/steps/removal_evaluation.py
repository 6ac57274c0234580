"""Brittleness: retrain without the most helpful examples of a test example, and see how far its margin falls."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.stats import bootstrap

from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import experiment_of, step
from tda.experiments.seeds import stream, stream_seed
from tda.figures.analysis import method_title, save_figure
from tda.scores.ensemble_scores import ensemble_scores
from tda.scores.score_files import load_scores, methods_on_disk
from tda.steps.compute_pvalues import check_data
from tda.system.devices import pick_device, prepare_process
from tda.system.errors import UserError
from tda.system.files import write_text
from tda.training.retrainings import Retraining, RetrainingStore, without

RANDOM = "random"


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
    device, folder = pick_device(settings.device), ResultsFolder(settings.experiment)
    store = RetrainingStore.of_splits(experiment_of(folder))
    counts = _removal_counts(settings.shares, len(store.train))
    if not 2 <= settings.num_test <= len(store.test):
        raise UserError(f"--num_test must lie in 2 to {len(store.test)}, the size of the test subset, not {settings.num_test}")
    if settings.num_seeds < 1:
        raise UserError(f"--num_seeds must be 1 or more, not {settings.num_seeds}")
    with step(store.experiment, "removal", vars(settings), store.hashes(), device):
        names = settings.methods.split(",") if settings.methods else methods_on_disk(folder)
        rankings = {name: _ranking(store, folder, name, settings) for name in names}
        rankings[RANDOM] = _random_ranking(len(store.train), settings.num_test)
        rows = []
        base = _margins_without(store, [[]], settings.num_seeds, device)
        for name, ranking in rankings.items():
            for count in counts:
                after = _margins_without(store, [order[:count].tolist() for order in ranking.T], settings.num_seeds, device)
                rows.append({"method": name, "share": count / len(store.train), "removed": count} | _effect(base, after))
        table = pd.DataFrame(rows)
        by_chance = table[table["method"] == RANDOM].set_index("removed")["margin_fall"]
        table["times_random"] = table["margin_fall"] / by_chance.loc[table["removed"]].to_numpy()
        write_text(folder.path / "removal.csv", table.to_csv(index=False, float_format="%.6g"))
        path = folder.path / "removal.png"
        save_figure(draw_removal(table), path, path.with_suffix(".pdf"))
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


def _ranking(store: RetrainingStore, folder: ResultsFolder, method: str, settings: RemovalSettings) -> np.ndarray:
    """Positions of training examples, most helpful first: (n_train, num_test) int64, by the ensemble's score."""
    scores = load_scores(folder, method)
    check_data(scores, store.hashes())
    values = ensemble_scores(scores, min(settings.num_checkpoints, len(scores.epochs)))
    return np.argsort(-values[:, : settings.num_test], axis=0, kind="stable")


def _random_ranking(num_train: int, num_test: int) -> np.ndarray:
    orders = [torch.randperm(num_train, generator=stream(test, "random removal")).numpy() for test in range(num_test)]
    return np.stack(orders, axis=1)


def _margins_without(
    store: RetrainingStore, removals: Sequence[Sequence[int]], num_seeds: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Margins and predicted labels (removals, seeds, n_test) of models retrained without each set of positions."""
    retrainings = [
        Retraining(without(len(store.train), removed), stream_seed(number, "removal retraining"))
        for removed in removals
        for number in range(num_seeds)
    ]
    store.fill(retrainings, device, "removal retraining")
    found = store.load(retrainings, "run_removal_evaluation.py again")
    shape = (len(removals), num_seeds, len(store.test))
    return found.margins.double().view(shape).numpy(), found.predictions.view(shape).numpy()


def _effect(base: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """Mean fall of the margin with its 95 % bootstrap interval over test examples, and the share of predictions that change."""
    own = np.arange(len(after[0]))
    falls = (base[0][0][:, own].T - after[0][own, :, own]).mean(axis=1)
    flips = base[1][0][:, own].T != after[1][own, :, own]
    interval = bootstrap((falls,), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    return {"margin_fall": falls.mean(), "low": interval.low, "high": interval.high, "flips": flips.mean()}


def draw_removal(table: pd.DataFrame) -> Figure:
    """Fall of the margin against the number of removed examples, a curve for each method, with intervals."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    panel = figure.subplots()
    for method, rows in table.groupby("method"):
        errors = np.stack((rows["margin_fall"] - rows["low"], rows["high"] - rows["margin_fall"])).clip(0)
        panel.errorbar(rows["removed"], rows["margin_fall"], errors, marker="o", capsize=2, label=method_title(method))
    panel.set(xlabel="training examples removed, most helpful first", ylabel="fall of the margin")
    panel.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
