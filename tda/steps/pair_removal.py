"""Step 7, images with texts: what does leaving out the pairs most helpful to a target pair do to it?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tda.debiasing.pair_removal import Retrained, found_targets, pair_rows, removal_table, removals
from tda.debiasing.pair_retrieval import nearness_of_members, retrieval_rows
from tda.debiasing.removal import seeds_of_retrainings
from tda.experiments.manifest import chosen_experiment
from tda.figures.pair_removal import draw_helpful_pairs, draw_pair_removal
from tda.figures.saving import save_figure
from tda.scores.fresh_scores import Checkpoints, fresh_scores, read_checkpoints, score_identities, score_identity
from tda.scores.score_files import methods_on_disk
from tda.scores.tables import add_to_table, row_identity, write_table
from tda.settings import PairRemoval
from tda.settings.of_experiment import check_counts
from tda.statistics.target_scores import TargetScores, target_scores
from tda.steps import scoring
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.study import Study, open_study


def main(settings: PairRemoval) -> str:
    """Write the tables and figures, and do what trainings are missing; returns the closing line.

    Raises UserError for unusable settings, a task without images and texts, no target that is found, and missing or foreign
    scores.
    """
    prepare_process()
    _check(settings)
    experiment = chosen_experiment(settings)
    study = open_study(experiment, settings.device)
    checkpoints = read_checkpoints(experiment)
    seed_ids = study.trained_seed_ids(checkpoints, settings.num_seeds)
    nearness = nearness_of_members(study, seed_ids)
    targets = found_targets(nearness, settings.rank, settings.num_targets)
    if not len(targets):
        raise UserError(
            f"the members of {experiment.name} find none of {len(study.test)} test pairs at --rank {settings.rank} or better; "
            "train longer or on more, or allow a larger rank"
        )
    names = _scored(study, settings, len(seed_ids))
    folder = study.results.path
    with study.step("pair removal", vars(settings)) as record:
        write_table(folder / "retrieval.csv", pd.DataFrame(retrieval_rows(nearness, seed_ids)))
        named = []
        for name in names:
            scores = fresh_scores(checkpoints, name, study.hashes, settings.num_seeds)
            named.append(target_scores(scores, targets, settings.num_checkpoints))
            record.made_from[name] = score_identity(experiment, name, scores)
        write_table(
            folder / "helpful_pairs.csv", pd.concat([pair_rows(study, targets, each, settings.listed) for each in named])
        )
        first = next((each for each in named if each.method in settings.removed_by[:1]), named[0])
        figure = draw_helpful_pairs(study.task, study.train, study.test, first, targets, settings.shown)
        save_figure(figure, folder / "helpful_pairs")
        if settings.removed:
            identity = _made_from(study, checkpoints, targets, settings)
            table = _removal(study, named, targets, settings).assign(made_from=identity)
            table = add_to_table(
                folder / "pair_removal.csv", table, ("method", "removed"), "made_from", score_identities(experiment)
            )
            save_figure(draw_pair_removal(table), folder / "pair_removal")
        record.files = sorted([*folder.glob("pair_removal.*"), *folder.glob("helpful_pairs.*"), folder / "retrieval.csv"])
    done = "pair_removal.csv, helpful_pairs.csv" if settings.removed else "helpful_pairs.csv"
    return f"wrote retrieval.csv, {done} and figures of {len(targets)} target pairs by {len(names)} methods, in {folder}"


def _check(settings: PairRemoval) -> None:
    check_counts(settings, "num_checkpoints", "num_targets", "rank", "listed", "shown")
    if settings.removed < 0:
        raise UserError("--removed must be 0 or more")
    if settings.removed:
        check_counts(settings, "num_retrainings")


def _scored(study: Study, settings: PairRemoval, num_seeds: int) -> list[str]:
    """The methods that name pairs; those that are named and have no scores at all are scored first, of so many seeds."""
    names = list(dict.fromkeys(settings.methods)) or methods_on_disk(study.results)
    unknown = [name for name in settings.removed_by if name not in names]
    if unknown and settings.removed:
        raise UserError(
            f"--removed_by names {unknown[0]}, which is not among the methods {', '.join(names)}; add it to --methods"
        )
    if not names:
        raise UserError(f"{study.experiment.name} has no scores; name --methods, or score it first with run_tda.py")
    if settings.removed and not settings.removed < len(study.train) - 1:
        raise UserError(f"--removed {settings.removed} leaves nothing of {len(study.train)} training pairs; leave out fewer")
    scoring.score_missing(study, names, num_seeds, settings.device)
    return names


def _made_from(study: Study, checkpoints: Checkpoints, targets: np.ndarray, settings: PairRemoval) -> str:
    """What rows of a table must share to stand beside each other: the members, the targets, and how removal is judged."""
    judged = (settings.num_checkpoints, settings.num_retrainings, settings.num_seeds)
    return row_identity(study.hashes, checkpoints.hashes, targets.tolist(), judged)


def _removal(study: Study, named: Sequence[TargetScores], targets: np.ndarray, settings: PairRemoval) -> pd.DataFrame:
    """Train without each method's pairs, and tell what that does."""
    retrained = Retrained(study, seeds_of_retrainings(settings.num_retrainings), settings.force)
    chosen = [each for each in named if each.method in (settings.removed_by or [every.method for every in named])]
    left_out = removals(chosen, len(study.train), targets, settings.removed)
    base = retrained.without([[]])
    return removal_table({method: retrained.falls(targets, rows, base) for method, rows in left_out.items()}, settings.removed)
