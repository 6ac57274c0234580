"""Step 10: the final table of an experiment, and the list of its files."""

import pandas as pd

from tda.experiments.folders import Experiment, ResultsFolder
from tda.experiments.manifest import chosen_experiment, records_of
from tda.scores.fresh_scores import are_outdated, read_checkpoints, score_identity
from tda.scores.score_files import methods_on_disk
from tda.settings import ShowSummary
from tda.system.device_names import check_device_name
from tda.system.errors import UserError
from tda.system.files import reading, sha256


def main(settings: ShowSummary) -> str:
    """Table, then the files beside it; score files are counted.

    Raises UserError as summary_text does, and if the table is not of the scores that are there now.
    """
    check_device_name(settings.device)
    experiment = chosen_experiment(settings)
    folder = experiment.results
    table = summary_text(folder)
    _require_current(experiment)
    files = sorted(path for path in folder.path.iterdir() if path.is_file() and not path.name.startswith("."))
    listed = "\n".join(f"  {path.name}" for path in files)
    score_files = sum(1 for _ in folder.path.glob("tda_scores/*/*/*.parquet"))
    return f"{table}\n\nfiles in {folder.path}:\n{listed}\n  tda_scores/: {score_files} score files"


def _require_current(experiment: Experiment) -> None:
    folder = experiment.results
    (record,) = records_of(folder, "p-values") or [{}]
    current = sha256((folder.path / "summary.csv").read_bytes()) == record.get("files", {}).get("summary.csv")
    methods, checkpoints = methods_on_disk(folder), read_checkpoints(experiment)
    if any(are_outdated(checkpoints, method) for method in methods):
        raise UserError(
            f"{folder.path / 'tda_scores'} holds scores of checkpoints that are no longer there; run the scoring scripts again "
            f"and then run_compute_pvalues.py --experiment {folder.name}"
        )
    if not current or record.get("made_from", {}) != {method: score_identity(experiment, method) for method in methods}:
        raise UserError(
            f"{folder.path / 'summary.csv'} is not of the scores that are there now; run run_compute_pvalues.py --experiment "
            f"{folder.name} again"
        )


def summary_text(folder: ResultsFolder) -> str:
    """The final table, to be printed: summary.csv at each method's largest number of checkpoints.

    Raises UserError if summary.csv is missing or damaged.
    """
    path = folder.path / "summary.csv"
    try:
        with reading(path):
            summary = pd.read_csv(path)
        final = summary[summary["checkpoints"] == summary.groupby("method")["checkpoints"].transform("max")]
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; run run_compute_pvalues.py --experiment {folder.name} first") from error
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged; run run_compute_pvalues.py --experiment {folder.name} again") from error
    return final.to_string(index=False, float_format="{:.3f}".format)
