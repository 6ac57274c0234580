"""Step 10: the final table of an experiment, where its page lies, and its files by pattern, in lines of at most 100 letters."""

import pandas as pd

from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import chosen_experiment
from tda.report.provenance import PAGE, files_of
from tda.scores.current_summary import of_most_checkpoints, read_summary, require_current_summary
from tda.settings import ShowSummary
from tda.system.device_names import check_device_name
from tda.system.errors import UserError

_COLUMNS = {
    "method": "method",
    "checkpoints": "ckpts",
    "seeds": "seeds",
    "pairs": "pairs",
    "mean_p_value": "mean p",
    "share_p_below_level": "p<0.05",
    "share_q_below_level": "q<0.05",
    "mean_signal_to_noise": "mean S/N",
    "median_signal_to_noise": "median S/N",
    "share_same_verdict": "same verdict",
}
"""Columns of summary.csv, with headings under which they fit beside each other."""


def main(settings: ShowSummary) -> str:
    """The report first, then the table, then the files; paths stand in lines of their own.

    Raises UserError as summary_text does, and if the table is not of the scores that are there now.
    """
    check_device_name(settings.device)
    experiment = chosen_experiment(settings)
    folder = experiment.results
    table = summary_text(folder)
    require_current_summary(experiment)
    page = folder.path / PAGE
    report = f"report, to be opened in a browser:\n  {page}"
    if not page.exists():
        report = f"no report yet; make it by\n  run_report.py --experiment {folder.name}"
    listed = "\n".join(f"  {group['count']:>5}  {group['pattern']:<27} {group['meaning']}" for group in files_of(folder))
    return f"{report}\n\n{table}\n\nfiles in\n  {folder.path}\n{listed}"


def summary_text(folder: ResultsFolder) -> str:
    """The final table, to be printed: summary.csv at each method's largest number of checkpoints.

    Raises UserError if summary.csv is missing or damaged.
    """
    try:
        final = of_most_checkpoints(read_summary(folder))[list(_COLUMNS)].rename(columns=_COLUMNS)
    except KeyError as error:
        path = folder.path / "summary.csv"
        raise UserError(f"{path} is damaged; run run_compute_pvalues.py --experiment {folder.name} again") from error
    return _as_text(final)


def _as_text(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format=lambda value: f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}")
