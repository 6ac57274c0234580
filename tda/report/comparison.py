"""Two experiments beside each other, from their tables alone."""

from collections.abc import Sequence

from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import experiment_of, read_manifest
from tda.methods.catalogue import method_title
from tda.report.overview import COLUMNS, STEPS, Overview, chart_data, read_overview
from tda.report.provenance import common_to_steps
from tda.scores.current_summary import of_most_checkpoints, outdated_steps, read_summary, require_current_summary
from tda.scores.fresh_scores import score_identities
from tda.scores.score_files import scored_methods


def comparison_values(folders: Sequence[ResultsFolder]) -> dict:
    """What the template of a comparison takes: for each method and column both values, and where both come from.

    Raises UserError if an experiment or its summary.csv is missing or damaged, or not of the scores that are there.
    """
    found = [_current_overview(folder) for folder in folders]
    names = sorted(set(found[0].methods) | set(found[1].methods), key=lambda name: method_title(name).lower())
    columns = [column for column in COLUMNS if any(_known(one, column.key) for one in found)]
    return {
        "names": [folder.name for folder in folders],
        "columns": columns,
        "rows": [_row(name, found, columns) for name in names],
        "about": [_about(folder, one) for folder, one in zip(folders, found, strict=True)],
        "values": {
            "names": [folder.name for folder in folders],
            "titles": {name: method_title(name) for name in names},
            "points": [_points(name, found) for name in names],
            "charts": [chart_data(one, {}) for one in found],
        },
    }


def _current_overview(folder: ResultsFolder) -> Overview:
    """What a folder's tables say of the scores that are there now; all of them where only tables were kept, or are a copy."""
    summary, experiment = read_summary(folder), experiment_of(folder)
    if experiment.name != folder.name or not scored_methods(folder):
        return read_overview(folder, summary)
    require_current_summary(experiment)
    return read_overview(folder, summary, outdated_steps(experiment, STEPS), score_identities(experiment))


def _points(name: str, found: Sequence[Overview]) -> dict:
    """A method's values in both experiments, of the columns that are drawn."""
    drawn = {key: [one.methods.get(name, {}).get(key) for one in found] for key in ("share_reliable", "with_loo")}
    return {"title": method_title(name)} | drawn


def _known(found: Overview, key: str) -> bool:
    return any(row[key] is not None for row in found.methods.values())


def _row(name: str, found: Sequence[Overview], columns: Sequence) -> dict:
    cells = [[one.methods.get(name, {}).get(column.key) for one in found] for column in columns]
    return {"title": method_title(name), "cells": cells}


def _about(folder: ResultsFolder, found: Overview) -> dict:
    experiment, last = experiment_of(folder), of_most_checkpoints(found.summary)
    parts = {
        "model": experiment.model,
        "task": experiment.task,
        "training examples a class": experiment.num_per_class,
        "variant of the training": experiment.variant or "none",
        "methods": len(last),
        "seeds": int(last["seeds"].max()),
        "pairs": f"{int(last['pairs'].max()):,}",
        "steps": len(read_manifest(folder)["steps"]),
    }
    return {
        "name": folder.name,
        "parts": parts,
        "common": common_to_steps(folder),
    }
