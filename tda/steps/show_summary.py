"""Step 10: the final table of an experiment, and the list of its files."""

import pandas as pd

from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import chosen_experiment
from tda.settings import ShowSummary
from tda.system.errors import UserError


def main(settings: ShowSummary) -> str:
    """Table, then the files beside it; score files are counted. Raises UserError as summary_text does."""
    folder = chosen_experiment(settings).results
    table = summary_text(folder)
    files = sorted(path for path in folder.path.iterdir() if path.is_file() and not path.name.startswith("."))
    listed = "\n".join(f"  {path.name}" for path in files)
    score_files = sum(1 for _ in folder.path.glob("tda_scores/*/*/*.parquet"))
    return f"{table}\n\nfiles in {folder.path}:\n{listed}\n  tda_scores/: {score_files} score files"


def summary_text(folder: ResultsFolder) -> str:
    """The final table, to be printed: summary.csv at each method's largest number of checkpoints.

    Raises UserError if summary.csv is missing or damaged.
    """
    path = folder.path / "summary.csv"
    try:
        summary = pd.read_csv(path)
        final = summary[summary["checkpoints"] == summary.groupby("method")["checkpoints"].transform("max")]
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; run run_compute_pvalues.py --experiment {folder.name} first") from error
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged; run run_compute_pvalues.py --experiment {folder.name} again") from error
    return final.to_string(index=False, float_format="{:.3f}".format)
