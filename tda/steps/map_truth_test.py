"""Step 9: do maps tell the truth? The truth test of an experiment: table and figure."""

import pandas as pd
import torch
from torch import Tensor

from tda.data.splits import Split
from tda.experiments.manifest import chosen_experiment
from tda.features.influence_maps import Pairs, Smoothing
from tda.features.reductions import reduce_channels
from tda.features.seed_maps import MapSettings, maps_of_seeds
from tda.features.selection import most_helpful
from tda.features.subjects import ensemble_subject, gradient_scores, last_members
from tda.features.truth_test import Importance, truth_table
from tda.figures.map_truth import draw_truth
from tda.figures.saving import save_figure
from tda.scores.tables import write_table
from tda.settings import MapTruthTest
from tda.settings.of_experiment import check_counts
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.study import open_study


def main(settings: MapTruthTest) -> str:
    """Rank the pixels by maps averaged over the seeds, take the steps, write table and figure; returns the closing line.

    Raises UserError for unusable settings, and for members that are missing, damaged or foreign.
    """
    check_counts(settings, "num_test", "num_train")
    prepare_process()
    if settings.score not in ("grad_cos", "grad_dot") or settings.ranked_by not in ("map", "map_times_change"):
        raise UserError("--score must be grad_cos or grad_dot, and --ranked_by map or map_times_change")
    study = open_study(chosen_experiment(settings), settings.device)
    seed_ids = study.seed_ids(settings.seed_id, settings.num_seeds)
    with study.step("truth test of maps", vars(settings), seed_ids=seed_ids):
        ensemble = last_members(study, 1, seed_ids)
        subject = ensemble_subject(ensemble, _spread(study.test, settings.num_test))
        scores = gradient_scores(subject, cosine=settings.score == "grad_cos")
        pairs = most_helpful(scores.mean(0), torch.arange(len(subject.test)), settings.num_train)
        chosen_map = MapSettings(settings.score, Smoothing(settings.smoothing_copies, settings.smoothing_deviation))
        seed_maps = maps_of_seeds(subject.seeds, subject.train, subject.test, pairs, chosen_map)
        mean_map = torch.stack(list(seed_maps)).mean(0)
        importance = Importance(pairs, _ranks(settings.ranked_by, mean_map, subject.train.inputs.cpu(), pairs))
        table = truth_table([members[-1] for members in ensemble], subject.train, subject.test, importance)
        folder = study.results.path
        write_table(folder / "map_truth.csv", table)
        save_figure(draw_truth(table), folder / "map_truth")
    apart = clearly_better(table)
    return f"wrote map_truth.csv, .png and .pdf, in {folder}; kept by the map is clearly better than at random at {apart}"


def _ranks(ranked_by: str, maps: Tensor, images: Tensor, pairs: Pairs) -> Tensor:
    """Importance (m, h, w) of the pixels of the pairs' images by their maps (m, c, h, w).

    map: its size; map_times_change: to first order, how much the score rises when the pixel comes back from the mean.
    """
    if ranked_by == "map":
        return reduce_channels(maps, "sum")
    return (maps * (images[pairs.train] - images.mean(dim=(0, 2, 3), keepdim=True))).sum(1)


def _spread(test: Split, count: int) -> Split:
    """At most `count` examples, evenly over the split."""
    chosen = torch.linspace(0, len(test) - 1, min(count, len(test))).round().long()
    return test[chosen]


def clearly_better(table: pd.DataFrame) -> str:
    """The shares up to which keeping pixels by the map beats random ones with intervals that do not overlap, in words."""
    kept = table[table.protocol == "keep"]
    by_map, random = (kept[kept.pixels == order].set_index("share") for order in ("map", "random"))
    shares = [share for share in by_map.index if by_map.low[share] > random.high[share]]
    return ", ".join(f"{share:.0%}" for share in shares) or "no share of the pixels"
