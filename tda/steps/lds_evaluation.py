"""Step 7: judge every method on disk by retraining on subsets: tables of the LDS, by ensemble and reliability, and figures."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import chosen_experiment, records_of
from tda.figures.linear_datamodeling_score import draw_lds
from tda.figures.reliability import draw_reliability
from tda.figures.saving import save_figure
from tda.scores.ensemble_scores import ensemble_scores
from tda.scores.fresh_scores import fresh_scores, read_checkpoints, score_identity
from tda.scores.score_files import Scores, methods_on_disk
from tda.scores.tables import write_table
from tda.settings import LdsEvaluation
from tda.statistics.intervals import Estimate
from tda.statistics.linear_datamodeling_score import lds, lds_of_each, noise_ceiling, predictions, retraining_agreement
from tda.statistics.pair_statistics import FEWEST_SEEDS, pair_statistics
from tda.statistics.reliability import rows_of_pairs, rows_of_test_examples
from tda.steps.lds_of_left_out import check_draw, evaluate_left_out
from tda.training.retrainings import RetrainingStore
from tda.training.study import open_study
from tda.training.subset_draws import SubsetDraw, SubsetOutputs, load_subset_outputs

ENSEMBLE_SIZES = (1, 2, 5, 10, 20, 50)
_RANDOM_SEED = 0
_BY_RELIABILITY = ("lds_by_reliability.csv", "lds_by_reliability.pdf", "lds_by_reliability.png", "lds_by_test_reliability.csv")


def main(settings: LdsEvaluation) -> str:
    """Write lds.csv, lds_by_reliability.csv, lds_by_test_reliability.csv and figures; returns the closing line.

    Those by reliability need three seeds, and go where there are fewer. With left_out or same_run, lds_left_out.csv and its
    figure instead.
    A member is a seed, its score the mean over its last `num_checkpoints` epochs, or all where fewer are stored.
    Raises UserError if the experiment, its scores or the retrainings are missing or of other data, or for too few subsets.
    """
    if settings.same_run or settings.left_out is not None:
        return evaluate_left_out(settings)
    draw = check_draw(SubsetDraw("evaluation", settings.alpha, settings.num_subsets, settings.num_retrainings))
    study = open_study(chosen_experiment(settings), settings.device)
    store, folder = RetrainingStore(study), study.results
    checkpoints = read_checkpoints(study.experiment)
    with study.step("LDS", vars(settings)) as record:
        outputs = load_subset_outputs(store, draw)
        judged, by_pairs, by_tests = [], [], []
        masks, mean_margins = outputs.masks.numpy(), outputs.margins.numpy().mean(axis=0)
        for name in methods_on_disk(folder):
            scores = fresh_scores(checkpoints, name, study.hashes, settings.num_seeds)
            record.made_from[name] = score_identity(study.experiment, name)
            kept = min(settings.num_checkpoints, len(scores.epochs))
            judged += list(_rows_of_sizes(scores, kept, outputs, seconds_of_member(folder, name)))
            if len(scores.seed_ids) >= FEWEST_SEEDS:
                statistics = pair_statistics(scores, kept)
                by_pairs += list(rows_of_pairs(statistics, masks, mean_margins))
                by_tests += list(rows_of_test_examples(statistics, masks, mean_margins))
        shape = (len(study.train), len(study.test))
        judged += list(_reference_rows(shape, outputs))
        table = pd.DataFrame(judged)
        _write(folder, "lds", table, draw_lds(table))
        record.files = [folder.path / name for name in ("lds.csv", "lds.pdf", "lds.png")]
        by_reliability = [folder.path / name for name in _BY_RELIABILITY]
        if by_pairs:
            pairs, tests = pd.DataFrame(by_pairs), pd.DataFrame(by_tests)
            _write(folder, "lds_by_reliability", pairs, draw_reliability(pairs, tests))
            _write(folder, "lds_by_test_reliability", tests)
            record.files += by_reliability
        else:
            for path in by_reliability:  # Of earlier scores, they would stand beside a table of these.
                path.unlink(missing_ok=True)
    best = table[table["members"] > 0].sort_values("lds").iloc[-1]
    tables = ", ".join(path.name for path in record.files if path.suffix == ".csv")
    return (
        f"wrote {tables} and figures, in {folder.path}; highest LDS: {best['lds']:.3f}, {best['method']} with "
        f"{best['members']} members"
    )


def _write(folder: ResultsFolder, name: str, table: pd.DataFrame, figure: Figure | None = None) -> None:
    write_table(folder.path / f"{name}.csv", table)
    if figure is not None:
        save_figure(figure, folder.path / name)


def _judge(predicted: Sequence[np.ndarray], outputs: SubsetOutputs) -> dict[str, float]:
    """LDS against the mean of a subset's retrainings, with its interval, and against a single retraining."""
    margins = outputs.margins.numpy()
    single = float(np.mean([lds_of_each(one, target) for one in predicted for target in margins]))
    return _columns(lds(predicted, margins.mean(axis=0)), single)


def _rows_of_sizes(scores: Scores, num_checkpoints: int, outputs: SubsetOutputs, seconds: float) -> Iterator[dict]:
    """A row for each ensemble size: the mean over disjoint ensembles of that many seeds."""
    masks = outputs.masks.numpy()
    for size in ENSEMBLE_SIZES:
        groups = len(scores.seed_ids) // size
        members = [range(group * size, (group + 1) * size) for group in range(groups)]
        predicted = [predictions(masks, ensemble_scores(scores.of_seeds(chosen), num_checkpoints)) for chosen in members]
        if predicted:
            found = _judge(predicted, outputs)
            yield {"method": scores.method, "members": size, "ensembles": groups} | found | {"seconds": seconds * size}


def _reference_rows(shape: tuple[int, int], outputs: SubsetOutputs) -> Iterator[dict]:
    """Random scores; half of the retrainings as prediction of the other half; and what an exact prediction would reach."""
    masks = outputs.masks.numpy()
    noise = np.random.default_rng(_RANDOM_SEED).normal(size=shape)
    yield {"method": "random", "members": 0, "ensembles": 1} | _judge([predictions(masks, noise)], outputs)
    margins = outputs.margins.numpy()
    halves = retraining_agreement(margins)
    if halves is not None:
        pair = retraining_agreement(margins[:2])
        yield {"method": "retraining", "members": 0, "ensembles": 1} | _columns(halves, pair.value)
        exact = noise_ceiling(halves, times=len(margins) / (len(margins) // 2))
        single = noise_ceiling(pair, times=1).value
        yield {"method": "exact_prediction", "members": 0, "ensembles": 1} | _columns(exact, single)


def _columns(against_mean: Estimate, single: float) -> dict[str, float]:
    return against_mean.columns("lds") | {"lds_single_retraining": single}


def seconds_of_member(folder: ResultsFolder, method: str) -> float:
    """Seconds of training a member and of scoring it by the method, from the manifest; NaN where that does not tell."""
    per_member = []
    for kind in ("training", f"scoring {method}"):
        records = records_of(folder, kind)
        seeds = sum(len(record["seeds"]) for record in records)
        per_member.append(sum(record["wall_seconds"] for record in records) / seeds if seeds else np.nan)
    return float(sum(per_member))
