"""Last step: print an experiment's summary table and the list of its files.

Reads results/<experiment>/summary.csv and the folder. Writes nothing. Cost: seconds.
"""

from dataclasses import dataclass

from tda.experiments.folders import ResultsFolder
from tda.steps.compute_pvalues import summary_text
from tda.system.command_line import run_script


@dataclass
class Settings:
    """The constants to edit."""

    experiment: str = "cnn_digits3_10pc"
    """Folder below results/ that is shown."""


def main(settings: Settings) -> str:
    """Table, then the files beside it; score files are counted."""
    folder = ResultsFolder(settings.experiment)
    table = summary_text(folder)
    files = sorted(path for path in folder.path.iterdir() if path.is_file() and not path.name.startswith("."))
    listed = "\n".join(f"  {path.name}" for path in files)
    score_files = sum(1 for _ in folder.path.glob("tda_scores/*/*/*.parquet"))
    return f"{table}\n\nfiles in {folder.path}:\n{listed}\n  tda_scores/: {score_files} score files"


if __name__ == "__main__":
    run_script(Settings, main)
