"""The shortcut study: do influence maps lie on a planted patch, and only where the models have learned it?"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tda.devices import pick_device, prepare_process
from tda.ensembles import load_members, train_ensemble
from tda.errors import UserError
from tda.features.baselines import grad_cam, input_gradients
from tda.features.influence_maps import Pairs, Smoothing
from tda.features.intervals import jackknife, over_seeds
from tda.features.map_files import save_arrays
from tda.features.reductions import area_under_curve, largest_inside, mass_share, reduce_channels
from tda.features.seed_maps import MapSettings, maps_of_seeds
from tda.features.shortcut import Patch, ShortcutExperiment, plant
from tda.features.shortcut_figures import ShortcutExamples, draw_merits, draw_shortcut_maps, map_title
from tda.figures import save_figure
from tda.files import write_text
from tda.manifest import step
from tda.many_models import evaluate, resident_split
from tda.members import Member
from tda.methods import method_named
from tda.models.families import family_named
from tda.paths import Experiment
from tda.seeds import chosen_seed_ids, stream
from tda.subsets import Split, load_split
from tda.tasks import Task, task_named

MERITS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "area_under_curve": area_under_curve,
    "mass_share": mass_share,
    "largest_inside": largest_inside,
}


@dataclass
class ShortcutSettings:
    """The constants to edit."""

    model: str = "cnn"
    """Model family."""
    task: str = "digits3"
    """Task: digits3, mnist3 or cifar10."""
    num_per_class: int = 10
    """Training examples per class; the index file must have been drawn."""
    red: float = 1.0
    """Red of the patch, from 0 to 1; images with one channel get the largest of the three."""
    green: float = 0.0
    """Green of the patch."""
    blue: float = 0.0
    """Blue of the patch."""
    patch_size: int = 5
    """Side of the patch in pixels."""
    patch_row: int = -6
    """Row of its upper left pixel; negative ones count from the lower edge."""
    patch_column: int = -6
    """Column of its upper left pixel; negative ones count from the right edge."""
    patched_class: int = 0
    """Class whose training images carry the patch, counted from 0."""
    patched_share: float = 0.5
    """Share of that class's training images that carry it."""
    num_test: int = 20
    """Misread test images whose maps are taken, at most."""
    num_train: int = 3
    """Most influential patched training images of each."""
    scores: str = "grad_cos,grad_dot"
    """Scores whose maps are taken: some of grad_cos, grad_dot and if, with commas; the first is also that of the controls."""
    smoothing_copies: int = 10
    """Noisy copies of the training image that a smoothed map averages over."""
    smoothing_deviation: float = 0.1
    """Standard deviation of their noise, as a share of the range of the image's values."""
    channel_reduction: str = "largest"
    """How the channels of a map become one: largest, sum or norm."""
    num_checkpoints: int = 1
    """A seed's map is the mean over this many of its last checkpoints."""
    num_seeds: int | None = None
    """Use only so many of random_seeds.pt; without it all."""
    device: str = "auto"
    """Device to compute on: cpu, cuda, or auto for cuda where there is one."""
    force: bool = False
    """Train the models with the patch again; needed after the patch was changed."""

    def patch(self) -> Patch:
        """What is planted."""
        colour = (self.red, self.green, self.blue)
        return Patch(colour, self.patch_size, self.patch_row, self.patch_column, self.patched_class, self.patched_share)


@dataclass(frozen=True)
class Planted:
    """The models and examples of a study.

    with_patch, without: the last members of each seed of both ensembles; train: as the former saw it; chosen: its patched
    positions; test: test images of other classes with the patch, labelled as the patch's class; true_labels: what they are;
    region: where the patch lies.
    """

    task: Task
    with_patch: list[list[Member]]
    without: list[list[Member]]
    train: Split
    chosen: Tensor
    test: Split
    true_labels: Tensor
    region: Tensor


@dataclass(frozen=True)
class Condition:
    """A row of the table: which maps of which training images under which models, and how to take them, seed by seed."""

    models: str
    map: str
    images: str
    smoothed: bool
    take: Callable[[], Iterable[Tensor]]


def run_shortcut_study(settings: ShortcutSettings) -> str:
    """Train both ensembles as far as they are missing, take the maps, write table and figures; returns the closing line.

    Raises UserError for unusable settings, or if no test image is misread.
    """
    prepare_process()
    device = pick_device(settings.device)
    experiment = ShortcutExperiment(settings.model, settings.task, settings.num_per_class)
    train, test = load_split(settings.task, "train", settings.num_per_class), load_split(settings.task, "test")
    hashes = {"train": train.fingerprint(), "test": test.fingerprint()}
    with step(experiment, "shortcut study", vars(settings), hashes, device):
        planted = trained_with_and_without(settings, experiment, train, test, device)
        misread = predicted_as_patch(planted)
        shown = _misread_by_most(planted, misread, settings.num_test)
        pairs = influential_pairs(planted, shown, settings.num_train)
        rows, kept = [], {}
        for condition in tqdm(conditions(settings, planted, pairs), desc="maps", delay=2):
            maps = torch.stack(list(condition.take()))
            kept[condition] = maps.mean(0)
            rows += _table_rows(condition, maps, planted.region, settings.channel_reduction)
        table, shares = pd.DataFrame(rows), _misread_table(planted, misread)
        _write_results(experiment, settings, planted, pairs, kept, table, shares)
    first = table[table.seeds_averaged].iloc[0]
    return (
        f"wrote shortcut_merits.csv, shortcut_misread.csv, shortcut_maps.npz and figures to {experiment.results.path}; "
        f"{len(shown)} misread test images, area under the curve of the first map's mean {first.area_under_curve:.3f}"
    )


def trained_with_and_without(
    settings: ShortcutSettings, experiment: ShortcutExperiment, train: Split, test: Split, device: torch.device
) -> Planted:
    """Both ensembles, trained as far as they are missing, and the examples on the device."""
    task, patch = task_named(settings.task), settings.patch()
    region = patch.region(task)
    planted, chosen = plant(train, patch, task)
    seed_ids = chosen_seed_ids(None)[: settings.num_seeds]
    plain = Experiment(settings.model, settings.task, settings.num_per_class)
    train_ensemble(experiment, seed_ids, planted, test, device, settings.force)
    train_ensemble(plain, seed_ids, train, test, device, force=False)
    kept = family_named(settings.model).plan(task).kept_epochs
    if not 1 <= settings.num_checkpoints <= len(kept):
        raise UserError(
            f"--num_checkpoints {settings.num_checkpoints} is out of range: {len(kept)} checkpoints a seed are kept"
        )
    epochs = kept[-settings.num_checkpoints :]
    others = torch.nonzero(test.labels != patch.label).flatten()
    images = patch.on(test.images[others], task)
    misled = Split(images, torch.full_like(others, patch.label), test.indices[others])
    return Planted(
        task,
        [load_members(experiment, seed_id, epochs, planted, device) for seed_id in seed_ids],
        [load_members(plain, seed_id, epochs, train, device) for seed_id in seed_ids],
        resident_split(planted, device),
        chosen,
        resident_split(misled, device),
        test.labels[others],
        region,
    )


def predicted_as_patch(planted: Planted) -> dict[str, np.ndarray]:
    """Whether each seed's last member takes each patched test image of another class for the patch's: (seeds, n_test) bool."""
    label = int(planted.test.labels[0])
    return {
        name: np.stack([evaluate(seed[-1].model, planted.test).predictions.numpy() == label for seed in seeds])
        for name, seeds in (("with the patch", planted.with_patch), ("without the patch", planted.without))
    }


def _misread_by_most(planted: Planted, misread: dict[str, np.ndarray], count: int) -> Tensor:
    """Positions of test images that most models with the patch misread and most without do not, spread over the split."""
    fooled = (misread["with the patch"].mean(0) > 0.5) & (misread["without the patch"].mean(0) <= 0.5)
    found = np.flatnonzero(fooled)
    if len(found) == 0:
        raise UserError("the patch misleads no test image, so there is no map to take; choose a larger patch or share")
    # The split's classes take turns or follow each other: evenly spaced positions hold all.
    return torch.from_numpy(found[np.unique(np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int))])


def influential_pairs(planted: Planted, shown: Tensor, num_train: int) -> Pairs:
    """Each shown test image with the patched training images of the largest mean Grad-Cos over the seeds, largest first."""
    few = Split(planted.test.images[shown], planted.test.labels[shown], planted.test.indices[shown])
    train = Split(
        planted.train.images[planted.chosen], planted.train.labels[planted.chosen], planted.train.indices[planted.chosen]
    )
    scorer = method_named("grad_cos")
    scores = [next(iter(scorer.score([seed[-1]], train, few, scorer.settings))).scores for seed in planted.with_patch]
    mean = torch.stack(scores).double().mean(0)
    best = mean.argsort(dim=0, descending=True, stable=True)[:num_train].cpu()
    return Pairs(planted.chosen[best.T.flatten()], shown.repeat_interleave(len(best)))


def conditions(settings: ShortcutSettings, planted: Planted, pairs: Pairs) -> list[Condition]:
    """All rows of the table, the smoothed map of the first score first."""
    scores = settings.scores.replace(" ", "").split(",")
    smoothing = Smoothing(settings.smoothing_copies, settings.smoothing_deviation)
    unpatched = torch.tensor(sorted(set(range(len(planted.train))) - set(planted.chosen.tolist())))
    drawn = torch.randint(len(unpatched), (len(pairs),), generator=stream(0, "random training images"))
    random_pairs = Pairs(unpatched[drawn], pairs.test)

    def of_pairs(models: list[list[Member]], pairs: Pairs, score: str, smoothed: bool) -> Callable[[], Iterable[Tensor]]:
        chosen = MapSettings(score, smoothing if smoothed else Smoothing())
        makers = [[partial(getattr, member, "model") for member in seed] for seed in models]
        return lambda: maps_of_seeds(makers, planted.train, planted.test, pairs, chosen)

    found = []
    for score in scores:
        for smoothed in (True, False):
            take = of_pairs(planted.with_patch, pairs, score, smoothed)
            found.append(Condition("with the patch", score, "influential", smoothed, take))
    for smoothed in (True, False):
        take = of_pairs(planted.without, pairs, scores[0], smoothed)
        found.append(Condition("without the patch", scores[0], "influential", smoothed, take))
    take = of_pairs(planted.with_patch, random_pairs, scores[0], True)
    found.append(Condition("with the patch", scores[0], "random", True, take))
    for name, method in (("input_gradient", input_gradients), ("grad_cam", _grad_cam)):
        take = partial(_of_images, method, planted, pairs)
        found.append(Condition("with the patch", name, "influential", False, take))
    return found


def _of_images(method: Callable[[nn.Module, Tensor, Tensor], Tensor], planted: Planted, pairs: Pairs) -> Iterator[Tensor]:
    images, labels = planted.train.images[pairs.train], planted.train.labels[pairs.train]
    for seed in planted.with_patch:
        yield torch.stack([method(member.model, images, labels).cpu() for member in seed]).mean(0)


def _grad_cam(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return grad_cam(model, images, labels)[:, None]


def _table_rows(condition: Condition, maps: Tensor, region: Tensor, reduction: str) -> list[dict]:
    """The figures of merit of single seeds' maps and of their mean, from maps (seeds, m, c, h, w)."""
    described = {"models": condition.models, "map": condition.map, "training_images": condition.images}
    described |= {"smoothed": condition.smoothed, "pairs": maps.shape[1], "seeds": len(maps)}
    single, averaged = dict(described, seeds_averaged=False), dict(described, seeds_averaged=True)
    for name, merit in MERITS.items():

        def mean_merit(found: Tensor, merit: Callable[[Tensor, Tensor], Tensor] = merit) -> Tensor:
            return merit(reduce_channels(found, reduction), region).double().mean()

        for row, estimate in (
            (single, over_seeds(np.array([float(mean_merit(own)) for own in maps]))),
            (averaged, jackknife(maps, mean_merit)),
        ):
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return [single, averaged]


def _misread_table(planted: Planted, misread: dict[str, np.ndarray]) -> pd.DataFrame:
    rows = []
    for models, wrong in misread.items():
        estimate = over_seeds(wrong.mean(1))
        rows.append({"models": models, "misread": estimate.value, "misread_low": estimate.low, "misread_high": estimate.high})
    return pd.DataFrame(rows).assign(test_images=len(planted.test), patched_training_images=len(planted.chosen))


def _write_results(
    experiment: Experiment,
    settings: ShortcutSettings,
    planted: Planted,
    pairs: Pairs,
    kept: dict[Condition, Tensor],
    table: pd.DataFrame,
    shares: pd.DataFrame,
) -> None:
    folder = experiment.results.path
    write_text(folder / "shortcut_merits.csv", table.to_csv(index=False, float_format="%.6g"))
    write_text(folder / "shortcut_misread.csv", shares.to_csv(index=False, float_format="%.6g"))
    save_arrays(folder / "shortcut_maps.npz", _named_arrays(pairs, planted, kept))
    save_figure(draw_merits(table, planted.region), folder / "shortcut_merits.png", folder / "shortcut_merits.pdf")
    examples = ShortcutExamples(planted.task, planted.train, planted.test, planted.true_labels, planted.region, pairs)
    columns = {
        _column_title(condition): reduce_channels(maps, settings.channel_reduction).numpy()
        for condition, maps in kept.items()
        if condition.images == "influential"
    }
    save_figure(draw_shortcut_maps(examples, columns), folder / "shortcut_maps.png", folder / "shortcut_maps.pdf")


def _column_title(condition: Condition) -> str:
    name = map_title(condition.map) + (",\nsmoothed" if condition.smoothed else "\n")
    return name if condition.models == "with the patch" else f"{name.rstrip()},\nno patch learned"


def _named_arrays(pairs: Pairs, planted: Planted, kept: dict[Condition, Tensor]) -> dict[str, np.ndarray]:
    arrays = {
        "train_idx": planted.train.indices[pairs.train].numpy(),
        "test_idx": planted.test.indices[pairs.test].numpy(),
        "patch": planted.region.numpy(),
    }
    for condition, maps in kept.items():
        smoothed = "smoothed" if condition.smoothed else "plain"
        arrays[f"{condition.map}, {smoothed}, {condition.images} images, models {condition.models}"] = maps.numpy()
    return arrays
