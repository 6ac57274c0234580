"""Step 4: p-values of every (train, test) pair as CSV files, their summary, and the figures that show them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import chosen_experiment
from tda.figures.examples import Gallery, draw_example
from tda.figures.histograms import draw_histograms
from tda.figures.saving import save_figure
from tda.scores.checked_scores import check_all
from tda.scores.fresh_scores import fresh_scores, read_checkpoints, score_identity
from tda.scores.parquet_columns import Matrix, write_matrix
from tda.scores.score_files import Scores, methods_on_disk
from tda.scores.six_digits import csv_text
from tda.scores.tables import write_table
from tda.settings import ComputePvalues
from tda.statistics.extremes import choose_examples, majority
from tda.statistics.pair_statistics import (
    SIGNIFICANCE_LEVEL,
    PairStatistics,
    kept_on_disk,
    pair_statistics,
    require_enough_seeds,
)
from tda.system.files import scratch_folder, write_bytes
from tda.system.threads import in_threads
from tda.training.ensembles import predicted_labels
from tda.training.study import open_study

MOST_CHECKPOINTS = 5
MOST_CSV_PAIRS = 10_000_000
"""Pairs beyond which tables of all of them are parquet files, and methods are looked at one after another."""


def main(settings: ComputePvalues) -> str:
    """Write all tables and figures of the step, once everything that they need was read; returns the closing line.

    Raises UserError if the experiment or its scores are missing, damaged, of fewer than three seeds, or of other data.
    """
    study = open_study(chosen_experiment(settings), settings.device, may_learn_more=True)
    folder = study.results
    checkpoints = read_checkpoints(study.experiment)
    many = len(study.train) * len(study.test) > MOST_CSV_PAIRS
    with study.step("p-values", vars(settings)) as record, ExitStack() as stack:
        names, seed_ids, spill = methods_on_disk(folder), set(), None
        if many:
            spill = stack.enter_context(scratch_folder(folder.path, "pair_statistics"))

        def load(name: str) -> Scores:
            scores = fresh_scores(checkpoints, name, study.hashes, settings.num_seeds)
            require_enough_seeds(scores)
            record.made_from[name] = score_identity(study.experiment, name, scores)
            seed_ids.update(scores.seed_ids)
            return scores

        checked = check_all(names, load)
        gallery = Gallery(study.task, study.train, study.test, majority(predicted_labels(study, sorted(seed_ids))))
        write = partial(_write_pair_tables, folder, spill)
        written = map(write, checked) if many else in_threads(write, checked)
        statistics = list(tqdm(written, total=len(names), desc="writing p-values", delay=2))
        _write_summaries(folder, [row for rows, _ in statistics for row in rows])
        most_averaged = [last for _, last in statistics]
        save_figure(draw_histograms(most_averaged), folder.path / "pvalue_histograms")
        pictures = _write_pictures(folder, gallery, most_averaged)
        record.files = [*_tables(folder, most_averaged), *(folder.path / name for name in pictures)]
    return (
        f"wrote p-values of {len(most_averaged)} methods, summary.csv, pvalue_histograms and {len(pictures) // 2} "
        f"attributions_test_* as .png and .pdf, in {folder.path}"
    )


def _tables(folder: ResultsFolder, methods: Sequence[PairStatistics]) -> list[Path]:
    """Every table of the step, and the histograms."""
    patterns = [f"*values*_{method.method}_across_*_ckpts.*" for method in methods]
    patterns += ["summary.csv", "mean_*p_values.csv", "pvalue_histograms.*"]
    return sorted({path for pattern in patterns for path in folder.path.glob(pattern)})


def statistics_by_checkpoints(scores: Scores) -> Iterator[PairStatistics]:
    """Statistics over the last 1, 2, ... checkpoints, up to five or as many as there are."""
    for num_checkpoints in range(1, min(MOST_CHECKPOINTS, len(scores.epochs)) + 1):
        yield pair_statistics(scores, num_checkpoints)


def _write_pair_tables(folder: ResultsFolder, spill: Path | None, scores: Scores) -> tuple[list[dict], PairStatistics]:
    """Write a method's tables; returns its lines of summary.csv, and its statistics over the most checkpoints.

    spill: where there are many pairs, a folder for these statistics, whose tables are parquet files then.
    """
    rows = []
    for statistics in statistics_by_checkpoints(scores):
        tables = {
            "pvalues": statistics.p_value,
            "qvalues": statistics.q_value,
            "pvalues_single_draw": statistics.single_draw_p_value,
        }
        for kind, values in tables.items():
            path = folder.path / f"{kind}_{scores.method}_across_{statistics.num_checkpoints}_ckpts.csv"
            columns, other = scores.test_indices.tolist(), path.with_suffix(".parquet")
            if spill is None:
                write_bytes(path, csv_text(values, scores.train_indices.tolist(), columns, "train_idx"))
            else:
                write_matrix(other, "train_idx", Matrix(values, scores.train_indices, list(map(str, columns)), {}))
            (path if spill else other).unlink(missing_ok=True)
        rows.append(summary_row(statistics))
    return rows, statistics if spill is None else kept_on_disk(statistics, spill)


def summary_row(statistics: PairStatistics) -> dict[str, str | int | float]:
    """One line of summary.csv. Shares are of all pairs and lie in [0, 1].

    Signal to noise is |mean / std|. A few pairs with next to no spread over seeds rule its mean, and one without any, and
    a score other than 0, makes it infinite; the median withstands them.
    share_same_verdict: pairs that the t-test and the single-draw test put on the same side of the significance level.
    """
    significant = statistics.p_value < SIGNIFICANCE_LEVEL
    return {
        "method": statistics.method,
        "checkpoints": statistics.num_checkpoints,
        "seeds": statistics.num_seeds,
        "pairs": statistics.p_value.size,
        "mean_p_value": statistics.p_value.mean(),
        "mean_single_draw_p_value": statistics.single_draw_p_value.mean(),
        "share_p_below_level": significant.mean(),
        "share_q_below_level": (statistics.q_value < SIGNIFICANCE_LEVEL).mean(),
        "mean_signal_to_noise": statistics.signal_to_noise.mean(),
        "median_signal_to_noise": np.median(statistics.signal_to_noise),
        "share_same_verdict": (significant == (statistics.single_draw_p_value < SIGNIFICANCE_LEVEL)).mean(),
    }


def _write_summaries(folder: ResultsFolder, rows: list[dict]) -> None:
    summary = pd.DataFrame(rows)
    for column, name in (("mean_p_value", "mean_p_values"), ("mean_single_draw_p_value", "mean_single_draw_p_values")):
        table = summary.pivot(index="checkpoints", columns="method", values=column)
        write_table(folder.path / f"{name}.csv", table, index=True)
    summary = summary.drop(columns="mean_single_draw_p_value")
    write_table(folder.path / "summary.csv", summary)


def _write_pictures(folder: ResultsFolder, gallery: Gallery, methods: Sequence[PairStatistics]) -> list[str]:
    """Draw the chosen test images and remove pictures of ones that earlier scores chose; returns the file names."""
    written = []
    for position, reason in choose_examples(methods, gallery.wrong).items():
        name = f"attributions_test_{int(gallery.test.indices[position])}"
        save_figure(draw_example(gallery, methods, position, reason), folder.path / name)
        written += [f"{name}.png", f"{name}.pdf"]
    for path in folder.path.glob("attributions_test_*.*"):
        if path.name not in written:
            path.unlink()
    return written
