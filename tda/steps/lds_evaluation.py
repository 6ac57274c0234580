"""Judge every method on disk by retraining on subsets: LDS tables for members and ensembles, by reliability, and the figure."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure

from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import experiment_of, read_manifest, step
from tda.figures.analysis import method_title, save_figure
from tda.scores.ensemble_scores import ensemble_scores
from tda.scores.score_files import Scores, load_scores, methods_on_disk
from tda.statistics.linear_datamodeling_score import lds, lds_of_each, noise_ceiling, predictions
from tda.statistics.pair_statistics import FEWEST_SEEDS, pair_statistics
from tda.statistics.reliability import draw_reliability, rows_of_pairs, rows_of_test_examples
from tda.steps.compute_pvalues import check_data
from tda.steps.subset_retraining import SubsetDraw, SubsetOutputs, load_subset_outputs
from tda.system.errors import UserError
from tda.system.files import write_text
from tda.training.retrainings import RetrainingStore

ENSEMBLE_SIZES = (1, 2, 5, 10, 20, 50)
_RANDOM_SEED = 0


def evaluate_lds(folder: ResultsFolder, draw: SubsetDraw, num_checkpoints: int, arguments: dict) -> str:
    """Write lds.csv, lds_by_reliability.csv, lds_by_test_reliability.csv and figures; returns the closing line.

    A member is a seed, its score the mean over its last `num_checkpoints` epochs, or all where fewer are stored.
    Raises UserError if the experiment, its scores or the retrainings are missing or of other data.
    """
    store = RetrainingStore.of_splits(experiment_of(folder))
    with step(store.experiment, "LDS", arguments, store.hashes(), torch.device("cpu")):
        outputs = load_subset_outputs(store, draw)
        judged, by_pairs, by_tests = [], [], []
        masks, mean_margins = outputs.masks.numpy(), outputs.margins.numpy().mean(axis=0)
        for name in methods_on_disk(folder):
            scores = load_scores(folder, name)
            check_data(scores, store.hashes())
            kept = min(num_checkpoints, len(scores.epochs))
            judged += list(_rows_of_sizes(scores, kept, outputs, seconds_of_member(folder, name)))
            if len(scores.seed_ids) >= FEWEST_SEEDS:
                statistics = pair_statistics(scores, kept)
                by_pairs += list(rows_of_pairs(statistics, masks, mean_margins))
                by_tests += list(rows_of_test_examples(statistics, masks, mean_margins))
        shape = (len(store.train), len(store.test))
        judged += list(_reference_rows(shape, outputs))
        table = pd.DataFrame(judged)
        _write(folder, "lds", table, draw_lds(table))
        if by_pairs:
            pairs, tests = pd.DataFrame(by_pairs), pd.DataFrame(by_tests)
            _write(folder, "lds_by_reliability", pairs, draw_reliability(pairs, tests))
            _write(folder, "lds_by_test_reliability", tests)
    best = table[table["members"] > 0].sort_values("lds").iloc[-1]
    return (
        f"wrote lds.csv, lds_by_reliability.csv, lds_by_test_reliability.csv and figures to {folder.path}; "
        f"highest LDS: {best['lds']:.3f}, {best['method']} with {best['members']} members"
    )


def _write(folder: ResultsFolder, name: str, table: pd.DataFrame, figure: Figure | None = None) -> None:
    write_text(folder.path / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
    if figure is not None:
        path = folder.path / f"{name}.png"
        save_figure(figure, path, path.with_suffix(".pdf"))


def _targets(outputs: SubsetOutputs) -> dict[str, np.ndarray]:
    """What predictions are compared with, (R, S, n_test): each retraining alone, and the mean over a subset's retrainings."""
    margins = outputs.margins.numpy()
    return {"single": margins, "mean": margins.mean(axis=0, keepdims=True)}


def _judge(predicted: Sequence[np.ndarray], outputs: SubsetOutputs) -> dict[str, float]:
    """LDS against the mean of a subset's retrainings, with its interval, and against a single retraining."""
    targets = _targets(outputs)
    against_mean = lds(predicted, targets["mean"][0])
    single = float(np.mean([lds_of_each(one, target) for one in predicted for target in targets["single"]]))
    return {"lds": against_mean.mean, "low": against_mean.low, "high": against_mean.high, "lds_single_retraining": single}


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
    """Random scores, and what retraining predicts of itself: half of the retrainings against the other half."""
    masks = outputs.masks.numpy()
    noise = np.random.default_rng(_RANDOM_SEED).normal(size=shape)
    yield {"method": "random", "members": 0, "ensembles": 1} | _judge([predictions(masks, noise)], outputs)
    ceiling = noise_ceiling(outputs.margins.numpy())
    if ceiling is not None:
        pair = noise_ceiling(outputs.margins.numpy()[:2])
        found = {"lds": ceiling.mean, "low": ceiling.low, "high": ceiling.high, "lds_single_retraining": pair.mean}
        yield {"method": "retraining", "members": 0, "ensembles": 1} | found


def seconds_of_member(folder: ResultsFolder, method: str) -> float:
    """Seconds of training and scoring a member, from the manifest; a step that did several methods counts whole for each.

    NaN where the manifest does not tell.
    """
    steps = read_manifest(folder)["steps"]
    training = [entry for name, entry in steps.items() if name.startswith("training")]
    scoring = [entry for entry in steps.values() if method in entry["arguments"].get("methods", {})]
    per_member = []
    for entries in (training, scoring):
        seeds = sum(len(entry["seeds"]) if entry["arguments"].get("seed_id") is None else 1 for entry in entries)
        per_member.append(sum(entry["wall_seconds"] for entry in entries) / seeds if seeds else np.nan)
    return float(sum(per_member))


def draw_lds(table: pd.DataFrame) -> Figure:
    """LDS against compute time, a curve for each method over ensemble sizes, with intervals; the ceiling as a dashed line.

    Against the number of members where no time is known.
    """
    place = "seconds" if (table["seconds"] > 0).any() else "members"
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    panel = figure.subplots()
    panel.set_prop_cycle(color=colormaps["tab20"].colors)
    for method, rows in table[table["members"] > 0].groupby("method"):
        errors = np.stack((rows["lds"] - rows["low"], rows["high"] - rows["lds"])).clip(0)
        panel.errorbar(rows[place], rows["lds"], errors, marker="o", capsize=2, label=method_title(method))
    for _, row in table[table["method"] == "retraining"].iterrows():
        panel.axhline(row["lds"], color="black", linestyle="--", linewidth=1, label="noise ceiling")
    panel.set_xscale("log")
    panel.axhline(0, color="grey", linewidth=0.6)
    panel.set(xlabel={"seconds": "seconds of training and scoring"}.get(place, place), ylabel="linear datamodeling score")
    panel.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def check_draw(draw: SubsetDraw) -> SubsetDraw:
    """Raise UserError unless there are enough subsets for a rank correlation."""
    if draw.num_subsets < 3:
        raise UserError(f"a rank correlation needs at least 3 subsets, not {draw.num_subsets}")
    return draw
