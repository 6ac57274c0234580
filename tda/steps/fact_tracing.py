"""Step 7, language: which training texts state a fact, and which make the model give it?"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from tda.debiasing.removal import seeds_of_retrainings
from tda.experiments.manifest import chosen_experiment
from tda.facts.asked_facts import AskedFacts, learned_facts
from tda.facts.fact_removal import Retrained, random_texts
from tda.facts.found_texts import row_of_finding, row_of_reliability, text_rows
from tda.facts.removal_rows import (
    HIGHEST,
    KEYS,
    ORACLE,
    RANDOM,
    Removals,
    removal_table,
    removals_by_significance,
    removals_of,
    rows_alone,
)
from tda.figures.fact_tracing import draw_fact_tracing
from tda.figures.saving import save_figure
from tda.scores.fresh_scores import Checkpoints, fresh_scores, read_checkpoints, score_identities, score_identity
from tda.scores.score_files import methods_on_disk
from tda.scores.tables import add_to_table, row_identity, write_table
from tda.settings import FactTracing
from tda.settings.of_experiment import check_counts
from tda.statistics.target_scores import TargetScores, target_scores
from tda.steps import scoring
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.study import Study, open_study


def main(settings: FactTracing) -> str:
    """Write the tables and the figure, and do what trainings are missing; returns the closing line.

    Raises UserError for unusable settings, a task without facts, too few learned ones, and missing or foreign scores.
    """
    prepare_process()
    _check(settings)
    experiment = chosen_experiment(settings)
    study = open_study(experiment, settings.device)
    checkpoints = read_checkpoints(experiment)
    seed_ids = study.trained_seed_ids(checkpoints, settings.num_seeds)
    asked = learned_facts(study, seed_ids, settings.rank, settings.num_facts)
    names = _scored(study, settings, len(seed_ids))
    with study.step("fact tracing", vars(settings)) as record:
        found = []
        for name in names:
            scores = fresh_scores(checkpoints, name, study.hashes, settings.num_seeds)
            found.append(target_scores(scores, asked.positions, settings.num_checkpoints))
            record.made_from[name] = score_identity(experiment, name, scores)
        identity = _made_from(study, checkpoints, asked, settings)
        folder = study.results.path
        write_table(folder / "asked_facts.csv", _asked_table(study, asked))
        texts = pd.concat([text_rows(study.task, study.train, asked, each, settings.found) for each in found])
        write_table(folder / "fact_texts.csv", texts)
        finding = _finding(asked, found, settings).assign(made_from=identity)
        finding = add_to_table(folder / "fact_tracing.csv", finding, ("method",), "made_from", score_identities(experiment))
        falling = _falling(study, asked, found, settings, identity, folder) if settings.removed else None
        save_figure(draw_fact_tracing(finding, falling), folder / "fact_tracing")
        record.files = sorted([*folder.glob("fact_*"), folder / "asked_facts.csv"])
    return f"wrote fact_tracing.csv, .png and .pdf of {len(asked)} facts by {len(names)} methods and more, in {folder}"


def _check(settings: FactTracing) -> None:
    check_counts(settings, "num_checkpoints", "num_facts", "rank", "found")
    if settings.removed < 0 or settings.alone < 0:
        raise UserError("--removed and --alone must be 0 or more")
    if settings.removed:
        check_counts(settings, "num_retrainings", "facts_at_once")
    if not 0 < settings.level < 1:
        raise UserError(f"--level {settings.level} is no level of q; choose a number between 0 and 1, such as 0.05")


def _scored(study: Study, settings: FactTracing, num_seeds: int) -> list[str]:
    """The methods that find texts; those that are named and have no scores at all are scored first, of so many seeds."""
    names = list(dict.fromkeys(settings.methods)) or methods_on_disk(study.results)
    for key in ("removed_by", "significance_of"):
        unknown = [name for name in getattr(settings, key) if name not in names]
        if unknown and settings.removed:
            raise UserError(
                f"--{key} names {unknown[0]}, which is not among the methods {', '.join(names)}; add it to --methods"
            )
    if settings.removed and not settings.removed < len(study.train):
        raise UserError(f"--removed {settings.removed} leaves nothing of {len(study.train)} training texts; leave out fewer")
    scoring.score_missing(study, names, num_seeds, settings.device)
    return names


def _made_from(study: Study, checkpoints: Checkpoints, asked: AskedFacts, settings: FactTracing) -> str:
    """What rows of a table must share to stand beside each other: the members, the facts, and how methods are judged."""
    removal = (settings.num_retrainings, settings.facts_at_once)
    judged = (settings.num_checkpoints, settings.found, settings.level, settings.num_seeds, removal)
    return row_identity(study.hashes, checkpoints.hashes, asked.positions.tolist(), judged)


def _asked_table(study: Study, asked: AskedFacts) -> pd.DataFrame:
    answers = asked.answers
    return pd.DataFrame(
        {
            "test_idx": study.test.indices.numpy()[asked.positions],
            "fact": asked.names,
            "stating": asked.states.sum(axis=0),
            "log_probability": answers.log_probability.mean(axis=0),
            "log_probability_std": answers.log_probability.std(axis=0, ddof=1) if len(answers.rank) > 1 else np.nan,
            "median_rank": np.median(answers.rank, axis=0),
            "said": (answers.rank == 1).mean(axis=0),
        }
    )


def _finding(asked: AskedFacts, found: Sequence[TargetScores], settings: FactTracing) -> pd.DataFrame:
    rows = [
        row_of_finding(each.method, each.scores, asked, settings.found) | row_of_reliability(each, asked, settings.level)
        for each in found
    ]
    num_train = len(asked.states)
    orders = np.array(random_texts(num_train, len(asked), num_train)).T
    by_chance = -np.argsort(orders, axis=0).astype(np.float64)
    rows.append(row_of_finding(RANDOM, by_chance, asked, settings.found))
    rows.append(row_of_finding(ORACLE, asked.states.astype(np.float64), asked, settings.found))
    return pd.DataFrame(rows)


def _falling(
    study: Study, asked: AskedFacts, found: Sequence[TargetScores], settings: FactTracing, identity: str, folder: Path
) -> pd.DataFrame:
    """Write what leaving texts out does, and return the table."""
    how = Removals(settings.removed, settings.facts_at_once)
    retrained = Retrained(study, asked, seeds_of_retrainings(settings.num_retrainings), settings.force)
    chosen = [each for each in found if each.method in (settings.removed_by or [every.method for every in found])]
    removals = removals_of(retrained, chosen, how)
    for each in found:
        if each.method in settings.significance_of:
            removals |= removals_by_significance(each, settings.removed, settings.level)
    base = retrained.answers_without([[]])
    table = removal_table(retrained, removals, base, how).assign(made_from=identity)
    current = score_identities(study.experiment)
    table = add_to_table(folder / "fact_removal.csv", table, KEYS, "made_from", current)
    if settings.alone:
        first = settings.removed_by[0] if settings.removed_by else chosen[0].method
        key = (first, HIGHEST)
        # What the table has forced is not to be trained once more.
        again = replace(retrained, force=False)
        rows = pd.DataFrame(rows_alone(again, key, removals[key], base, how, settings.alone)).assign(made_from=identity)
        add_to_table(folder / "fact_removal_alone.csv", rows, (*KEYS, "test_idx"), "made_from", current)
    return table
