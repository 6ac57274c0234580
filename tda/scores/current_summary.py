"""The table summary.csv, if it is of the scores and the checkpoints that are there now."""

from collections.abc import Iterable

import pandas as pd

from tda.experiments.folders import Experiment, ResultsFolder
from tda.experiments.manifest import records_of
from tda.scores.fresh_scores import are_outdated, read_checkpoints, score_identities
from tda.scores.score_files import methods_on_disk
from tda.system.errors import UserError
from tda.system.files import reading, sha256


def read_summary(folder: ResultsFolder) -> pd.DataFrame:
    """summary.csv, a row for each method and number of checkpoints; raises UserError if it is missing or damaged."""
    path = folder.path / "summary.csv"
    try:
        with reading(path):
            summary = pd.read_csv(path)
        _ = summary[["method", "checkpoints"]]
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; run run_compute_pvalues.py --experiment {folder.name} first") from error
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged; run run_compute_pvalues.py --experiment {folder.name} again") from error
    return summary


def of_most_checkpoints(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows at each method's largest number of checkpoints."""
    return summary[summary["checkpoints"] == summary.groupby("method")["checkpoints"].transform("max")]


def outdated_steps(experiment: Experiment, kinds: Iterable[str]) -> set[str]:
    """Those of the kinds of steps that were made from scores which are no longer there."""
    current = score_identities(experiment)
    found = {kind: [record.get("made_from", {}) for record in records_of(experiment.results, kind)] for kind in kinds}
    return {kind for kind, each in found.items() if any(made_from.items() - current.items() for made_from in each)}


def outdated_files(experiment: Experiment, kind: str) -> set[str]:
    """Hashes of the files that steps of a kind made from scores which are no longer there."""
    current, records = score_identities(experiment), records_of(experiment.results, kind)
    outdated = [record for record in records if record.get("made_from", {}).items() - current.items()]
    return {content for record in outdated for content in record.get("files", {}).values()}


def require_current_summary(experiment: Experiment) -> None:
    """Raise UserError unless summary.csv is of the scores that are there now, and those are of the checkpoints that are."""
    folder = experiment.results
    (record,) = records_of(folder, "p-values") or [{}]
    current = sha256((folder.path / "summary.csv").read_bytes()) == record.get("files", {}).get("summary.csv")
    methods, checkpoints = methods_on_disk(folder), read_checkpoints(experiment)
    if any(are_outdated(checkpoints, method) for method in methods):
        raise UserError(
            f"{folder.path / 'tda_scores'} holds scores of checkpoints that are no longer there; run the scoring scripts again "
            f"and then run_compute_pvalues.py --experiment {folder.name}"
        )
    if not current or record.get("made_from", {}) != score_identities(experiment):
        raise UserError(
            f"{folder.path / 'summary.csv'} is not of the scores that are there now; run run_compute_pvalues.py --experiment "
            f"{folder.name} again"
        )
