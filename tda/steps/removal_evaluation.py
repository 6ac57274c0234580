"""Step 7, brittleness: retrain without the most helpful examples of a test example, and see how far its margin falls."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tda.debiasing.removal import RANDOM, outputs_without, random_ranking, removal_effect, seeds_of_retrainings
from tda.experiments.manifest import chosen_experiment
from tda.figures.removal import draw_removal
from tda.figures.saving import save_figure
from tda.scores.ensemble_scores import ensemble_scores
from tda.scores.fresh_scores import Checkpoints, fresh_scores, read_checkpoints, score_identities, score_identity
from tda.scores.score_files import methods_on_disk
from tda.scores.tables import add_to_table, row_identity
from tda.settings import RemovalEvaluation
from tda.statistics.pair_statistics import seed_scores
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.study import Study, open_study
from tda.training.subset_draws import repeated_runs


def main(settings: RemovalEvaluation) -> str:
    """Do the retrainings that are missing and write removal.csv, removal.png and .pdf; returns the closing line.

    Raises UserError for unusable settings, missing scores or foreign data.
    """
    prepare_process()
    study = open_study(chosen_experiment(settings), settings.device)
    folder, times = study.results, settings.num_retrainings
    counts = _removal_counts(settings.shares, len(study.train))
    if not 2 <= settings.num_test <= len(study.test):
        raise UserError(f"--num_test must lie in 2 to {len(study.test)}, the size of the test subset, not {settings.num_test}")
    if times < 1:
        raise UserError(f"--num_retrainings must be 1 or more, not {times}")
    study, seeds = repeated_runs(study, times) if settings.same_run else (study, seeds_of_retrainings(times))
    checkpoints = read_checkpoints(study.experiment)
    stem = "removal_same_run" if settings.same_run else "removal"
    with study.step("removal", vars(settings), share="same run" if settings.same_run else "") as record:
        names = settings.methods or methods_on_disk(folder)
        rankings = {name: _rankings(study, checkpoints, name, settings) for name in names}
        rankings[RANDOM] = [random_ranking(len(study.train), settings.num_test)]
        rows = []
        base = outputs_without(study, [[[]]], seeds, settings.same_run, settings.force)
        for name, ranking in rankings.items():
            for count in counts:
                removals = [[order[:count].tolist() for order in of_seed.T] for of_seed in ranking]
                after = outputs_without(study, removals, seeds, settings.same_run, settings.force)
                rows.append({"method": name, "share": count / len(study.train), "removed": count} | removal_effect(base, after))
        table = pd.DataFrame(rows)
        by_chance = table[table["method"] == RANDOM].set_index("removed")["margin_fall"]
        table["times_random"] = table["margin_fall"] / by_chance.loc[table["removed"]].to_numpy()
        record.made_from = {name: score_identity(study.experiment, name) for name in names}
        table["made_from"] = _made_from(study, settings)
        current = score_identities(study.experiment)
        table = add_to_table(folder.path / f"{stem}.csv", table, ("method", "removed"), "made_from", current)
        save_figure(draw_removal(table), folder.path / stem)
        record.files = sorted(folder.path.glob(f"{stem}.*"))
    return f"wrote {stem}.csv, .png and .pdf of {len(names)} methods and random removal, in {folder.path}"


def _removal_counts(shares: Sequence[float], num_train: int) -> list[int]:
    """How many examples the shares are, each number once, however many shares round to it."""
    counts = list(dict.fromkeys(round(share * num_train) for share in shares))
    if not counts or not all(0 < count < num_train for count in counts):
        given = ",".join(map(str, shares))
        raise UserError(f"--shares {given} of {num_train} training examples remove none or all of them; choose others")
    return counts


def _made_from(study: Study, settings: RemovalEvaluation) -> str:
    """What a row of the table must share with another to stand beside it: the ensemble, and how removal was judged."""
    seeds = study.seeds if settings.num_seeds is None else study.seeds[: settings.num_seeds]
    judged = (settings.num_test, settings.num_retrainings, settings.num_checkpoints, seeds)
    return row_identity(study.hashes, study.plan.as_dict(), study.family.origin(study.task), judged)


def _rankings(study: Study, checkpoints: Checkpoints, method: str, settings: RemovalEvaluation) -> list[np.ndarray]:
    """Positions of training examples, most helpful first: (n_train, num_test) int64, by the ensemble's score.

    Of the same run, one ranking for each of the repeated members, by its own score.
    """
    num_seeds = settings.num_retrainings if settings.same_run else settings.num_seeds
    scores = fresh_scores(checkpoints, method, study.hashes, num_seeds)
    kept = min(settings.num_checkpoints, len(scores.epochs))
    values = list(seed_scores(scores, kept)) if settings.same_run else [ensemble_scores(scores, kept)]
    return [np.argsort(-of_seed[:, : settings.num_test], axis=0, kind="stable") for of_seed in values]
