"""The truth test of an experiment: settings, table and figure."""

from dataclasses import dataclass

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from tda.data.splits import Split, load_split
from tda.experiments.folders import Experiment
from tda.experiments.manifest import step
from tda.features.influence_maps import Pairs, Smoothing
from tda.features.reductions import reduce_channels
from tda.features.seed_maps import MapSettings, maps_of_seeds
from tda.features.selection import most_helpful
from tda.features.subjects import ensemble_subject, gradient_scores, last_members
from tda.features.truth_test import PROTOCOLS, Importance, truth_table
from tda.figures.analysis import save_figure
from tda.system.devices import pick_device, prepare_process
from tda.system.errors import UserError
from tda.system.files import write_text

_TITLES = {"keep": "only these pixels are kept", "delete": "these pixels are removed"}
_ORDERS = {"map": ("tab:red", "by the map"), "random": ("tab:blue", "at random")}


@dataclass
class TruthSettings:
    """The constants to edit."""

    model: str = "cnn"
    """Model family of the ensemble."""
    task: str = "digits3"
    """Task of the ensemble: digits3, mnist3 or cifar10."""
    num_per_class: int = 10
    """Training examples per class of the ensemble."""
    num_test: int = 40
    """Test images, spread evenly over the test subset."""
    num_train: int = 5
    """Most helpful training images of each, which make the batch of the added step."""
    score: str = "grad_dot"
    """Score whose maps rank the pixels, and that picks the training images: grad_cos or grad_dot."""
    ranked_by: str = "map_times_change"
    """What ranks the pixels: map, by its size, or map_times_change: the signed map times the pixel's distance from the mean."""
    smoothing_copies: int = 0
    """Noisy copies of the training image that a map averages over; 0 for the image itself."""
    smoothing_deviation: float = 0.1
    """Standard deviation of their noise, as a share of the range of the image's values."""
    num_seeds: int | None = None
    """Use only so many of random_seeds.pt; without it all."""
    device: str = "auto"
    """Device to compute on: cpu, cuda, or auto for cuda where there is one."""


def run_truth_test(settings: TruthSettings) -> str:
    """Rank the pixels by maps averaged over the seeds, take the steps, write table and figure; returns the closing line."""
    prepare_process()
    device = pick_device(settings.device)
    if settings.score not in ("grad_cos", "grad_dot") or settings.ranked_by not in ("map", "map_times_change"):
        raise UserError("--score must be grad_cos or grad_dot, and --ranked_by map or map_times_change")
    experiment = Experiment(settings.model, settings.task, settings.num_per_class)
    train, test = load_split(settings.task, "train", settings.num_per_class), load_split(settings.task, "test")
    hashes = {"train": train.fingerprint(), "test": test.fingerprint()}
    with step(experiment, "truth test of maps", vars(settings), hashes, device):
        ensemble = last_members(experiment, 1, settings.num_seeds, train, device)
        subject = ensemble_subject(ensemble, train, _spread(test, settings.num_test))
        scores = gradient_scores(subject, cosine=settings.score == "grad_cos")
        pairs = most_helpful(scores.mean(0), torch.arange(len(subject.test)), settings.num_train)
        chosen_map = MapSettings(settings.score, Smoothing(settings.smoothing_copies, settings.smoothing_deviation))
        seed_maps = maps_of_seeds(subject.seeds, subject.train, subject.test, pairs, chosen_map)
        mean_map = torch.stack(list(seed_maps)).mean(0)
        importance = Importance(pairs, _ranks(settings.ranked_by, mean_map, subject.train.images.cpu(), pairs))
        table = truth_table([members[-1] for members in ensemble], subject.train, subject.test, importance)
        folder = experiment.results.path
        write_text(folder / "map_truth.csv", table.to_csv(index=False, float_format="%.6g"))
        save_figure(draw_truth(table), folder / "map_truth.png", folder / "map_truth.pdf")
    apart = clearly_better(table)
    return f"wrote map_truth.csv, .png and .pdf to {folder}; kept by the map is clearly better than at random at {apart}"


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
    return Split(test.images[chosen], test.labels[chosen], test.indices[chosen])


def clearly_better(table: pd.DataFrame) -> str:
    """The shares up to which keeping pixels by the map beats random ones with intervals that do not overlap, in words."""
    kept = table[table.protocol == "keep"]
    by_map, random = (kept[kept.pixels == order].set_index("share") for order in ("map", "random"))
    shares = [share for share in by_map.index if by_map.low[share] > random.high[share]]
    return ", ".join(f"{share:.0%}" for share in shares) or "no share of the pixels"


def draw_truth(table: pd.DataFrame) -> Figure:
    """A panel for each protocol: loss changes against the share of pixels, by the map and at random, and the whole image's."""
    figure = Figure(figsize=(8.2, 3.3), layout="constrained")
    whole = table[(table.protocol == "keep") & (table.share == 1)].loss_change.mean()
    for panel, protocol in zip(figure.subplots(1, 2, sharey=True), PROTOCOLS, strict=True):
        for order, (colour, name) in _ORDERS.items():
            rows = table[(table.protocol == protocol) & (table.pixels == order)]
            panel.plot(100 * rows.share, rows.loss_change, "o-", color=colour, markersize=3.5, label=name)
            panel.fill_between(100 * rows.share, rows.low, rows.high, color=colour, alpha=0.2, linewidth=0)
        panel.axhline(whole, color="black", linestyle="--", linewidth=1, label="whole image")
        panel.set_xscale("log")
        panel.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
        panel.set_xlabel("share of the pixels, %")
        panel.set_title(_TITLES[protocol], fontsize=10)
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("test loss lowered by one step, nats")
    figure.axes[0].legend(frameon=False)
    return figure
