"""Step 5: how far the methods agree on the mean, the spread and the p-value of every (train, test) pair."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import pandas as pd
from tqdm import tqdm

from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import chosen_experiment, step
from tda.figures.correlations import draw_correlations
from tda.figures.saving import save_figure
from tda.scores.fresh_scores import fresh_scores, read_checkpoints, score_identity
from tda.scores.score_files import Scores, check_comparable, methods_on_disk
from tda.scores.tables import write_table
from tda.settings import CorrelationAnalysis
from tda.statistics.correlation import pearson, spearman
from tda.statistics.pair_statistics import PairStatistics, pair_statistics
from tda.system.device_names import check_device_name
from tda.system.errors import UserError
from tda.system.threads import in_threads

_STATISTICS = {
    "mean": ("mean", "mean score over seeds"),
    "std": ("std", "standard deviation over seeds"),
    "pvalue": ("p_value", "p-value of the t-test over seeds"),
}


def main(settings: CorrelationAnalysis) -> str:
    """Write the correlation matrices and heat maps of all methods on disk; returns the closing line.

    A seed's score is the mean over its last `num_checkpoints` epochs, or all where fewer are stored.
    Raises UserError if the experiment or its scores are missing or damaged, or if methods cannot be compared.
    """
    check_device_name(settings.device)
    num_checkpoints = settings.num_checkpoints
    if num_checkpoints < 1:
        raise UserError(f"--num_checkpoints {num_checkpoints} is too small; choose 1 or more")
    experiment, hashes = chosen_experiment(settings), {}
    folder = experiment.results
    checkpoints = read_checkpoints(experiment)
    seeds = checkpoints.seeds(settings.num_seeds)
    with step(experiment, "correlations", vars(settings), hashes, seeds=seeds) as record:
        names = methods_on_disk(folder)
        if len(names) < 2:
            raise UserError(f"a correlation needs two methods, but {folder.path} has scores of {names[0]} alone; score another")

        def load(name: str) -> Scores:
            scores = fresh_scores(checkpoints, name, num_seeds=settings.num_seeds)
            record.made_from[name] = score_identity(experiment, name, scores)
            hashes.update(scores.metadata["data"])
            return scores

        loaded = _comparable(map(load, tqdm(names, desc="reading scores", delay=2)))
        methods = list(in_threads(partial(_statistics, num_checkpoints), loaded))
        for short, (field, title) in _STATISTICS.items():
            _write_correlations(folder, short, title, methods, field)
        record.files = sorted(folder.path.glob("correlation_*"))
    return (
        f"wrote correlations of {len(names)} methods over the last {methods[0].num_checkpoints} checkpoints, as "
        f"correlation_*.csv, .png and .pdf, in {folder.path}"
    )


def _comparable(methods: Iterable[Scores]) -> Iterator[Scores]:
    """The same, each checked against the first; raises UserError as check_comparable does."""
    first = None
    for scores in methods:
        first = first or scores
        check_comparable(first, scores)
        yield scores


def _statistics(num_checkpoints: int, scores: Scores) -> PairStatistics:
    return pair_statistics(scores, min(num_checkpoints, len(scores.epochs)))


def _write_correlations(folder: ResultsFolder, short: str, title: str, methods: Sequence[PairStatistics], field: str) -> None:
    names = [method.method for method in methods]
    arrays = [getattr(method, field) for method in methods]
    matrices = {}
    for kind, correlate in (("Pearson", pearson), ("Spearman", spearman)):
        matrices[kind] = pd.DataFrame(correlate(arrays), index=pd.Index(names, name="method"), columns=names)
        write_table(folder.path / f"correlation_{kind.lower()}_{short}.csv", matrices[kind], index=True)
    save_figure(draw_correlations(matrices, f"Agreement of methods: {title}"), folder.path / f"correlation_{short}")
