"""Step 10: the page that a person opens."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from tda.experiments.folders import Experiment, ResultsFolder
from tda.experiments.manifest import chosen_experiment
from tda.report.comparison import comparison_values
from tda.report.content import PAGE_LIMIT, Content, content_of
from tda.report.data_tables import removal_candidates
from tda.report.page import COMPARISON_SCRIPTS, command, rendered
from tda.report.provenance import PAGE, common_to_steps, files_of, steps_of
from tda.scores.current_summary import outdated_files, read_summary, require_current_summary
from tda.scores.fresh_scores import Checkpoints, fresh_scores, read_checkpoints, score_identity
from tda.scores.score_files import Scores, check_comparable, methods_on_disk
from tda.settings import Report
from tda.statistics.pair_statistics import require_enough_seeds
from tda.system.device_names import check_device_name
from tda.system.errors import UserError
from tda.system.files import write_text
from tda.training.study import Study, open_study


def main(settings: Report) -> str:
    """Write the page; returns the closing line.

    Raises UserError if the experiment, its scores or summary.csv are missing, damaged, or not of each other.
    """
    if settings.compare is not None:
        return _compare(settings)
    study = open_study(chosen_experiment(settings), settings.device, may_learn_more=True)
    folder = study.results
    summary = read_summary(folder)
    require_current_summary(study.experiment)
    checkpoints, names = read_checkpoints(study.experiment), methods_on_disk(folder)
    num_seeds = _seeds_shown(study, checkpoints, summary, settings.num_seeds)
    first: dict[str, Scores] = {}
    with study.step("report", vars(settings)) as record:

        def load(name: str) -> Scores:
            scores = fresh_scores(checkpoints, name, study.hashes, num_seeds)
            require_enough_seeds(scores)
            check_comparable(first.setdefault("", replace(scores, values=scores.values[:0].copy())), scores)
            record.made_from[name] = score_identity(study.experiment, name, scores)
            return scores

        content = content_of(study, names, load, summary)
        page = folder.path / PAGE
        write_text(page, _rendered(study.experiment, content))
        record.files = [page]
    return _closing_line(page)


def _seeds_shown(study: Study, checkpoints: Checkpoints, summary: pd.DataFrame, asked: int | None) -> int | None:
    """Of how many seeds, the first ones, the page is: as many as summary.csv; None: all that are trained.

    Raises UserError if other ones were asked for.
    """
    seeds = int(summary["seeds"].max())
    if asked is not None and len(study.seed_ids(num_seeds=asked)) != seeds:
        name = study.experiment.name
        raise UserError(
            f"summary.csv of {name} is of {seeds} seeds, not of {asked}; run run_compute_pvalues.py --experiment {name} "
            f"--num_seeds {asked} first, or leave --num_seeds out"
        )
    return None if seeds == len(checkpoints.seed_ids) else seeds


def _closing_line(page: Path) -> str:
    size = page.stat().st_size / 1e6
    return f"wrote {page.name} ({size:.1f} MB), in {page.parent}; open it in a browser, it needs no network"


def _rendered(experiment: Experiment, content: Content) -> str:
    folder = experiment.results
    return rendered(
        "report.html",
        PAGE_LIMIT,
        content=content,
        candidates=removal_candidates(folder, outdated_files(experiment, "data debiasing")),
        steps=steps_of(folder),
        common=common_to_steps(folder),
        files=[group for group in files_of(folder) if group["pattern"] != PAGE],
        command=command("run_report.py", {"experiment": folder.name}),
    )


def _compare(settings: Report) -> str:
    check_device_name(settings.device)
    first, second = settings.compare
    if first == second:
        raise UserError(f"--compare names {first} twice; name two experiments")
    folders = [ResultsFolder(name) for name in settings.compare]
    values = comparison_values(folders)
    page: Path = folders[0].path / f"comparison_with_{second}.html"
    made_by = command("run_report.py", {"compare": settings.compare})
    write_text(page, rendered("comparison.html", PAGE_LIMIT, COMPARISON_SCRIPTS, command=made_by, **values))
    return _closing_line(page)
