"""Step 9: the shortcut study: do influence maps lie on a planted patch, and only where the models have learned it?"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import chosen_experiment
from tda.features.baselines import grad_cam, input_gradients
from tda.features.influence_maps import Pairs, Smoothing
from tda.features.map_files import save_arrays
from tda.features.reductions import area_under_curve, largest_inside, mass_share, reduce_channels
from tda.features.seed_maps import MapSettings, maps_of_seeds
from tda.features.shortcut import Patch
from tda.features.shortcut_models import (
    Planted,
    influential_pairs,
    misread_by_most,
    predicted_as_patch,
    shortcut_study,
    trained_with_and_without,
)
from tda.figures.saving import save_figure
from tda.figures.shortcut import ShortcutExamples, draw_merits, draw_shortcut_maps, map_title
from tda.scores.tables import write_table
from tda.settings import ShortcutStudy
from tda.settings.of_experiment import check_counts
from tda.statistics.intervals import Estimate, jackknife, over_seeds
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.system.random_streams import stream
from tda.training.members import Member
from tda.training.study import open_study

MERITS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "area_under_curve": area_under_curve,
    "mass_share": mass_share,
    "largest_inside": largest_inside,
}


@dataclass(frozen=True)
class Condition:
    """A row of the table: which maps of which training images under which models, and how to take them, seed by seed."""

    models: str
    map: str
    images: str
    smoothed: bool
    take: Callable[[], Iterable[Tensor]]


def main(settings: ShortcutStudy) -> str:
    """Train both ensembles as far as they are missing, take the maps, write table and figures; returns the closing line.

    Raises UserError for unusable settings, or if no test image is misread.
    """
    _check(settings)
    prepare_process()
    study = open_study(chosen_experiment(settings), settings.device)
    patched = shortcut_study(study, study.train)
    seed_ids = study.seed_ids(settings.seed_id, settings.num_seeds)
    with patched.step("shortcut study", vars(settings), study.hashes, seed_ids):
        planted = trained_with_and_without(study, _patch(settings), seed_ids, settings.num_checkpoints, settings.force)
        misread = predicted_as_patch(planted)
        shown = misread_by_most(misread, settings.num_test)
        pairs = influential_pairs(planted, shown, settings.num_train)
        rows, kept = [], {}
        for condition in tqdm(conditions(settings, planted, pairs), desc="maps", delay=2):
            maps = torch.stack(list(condition.take()))
            kept[condition] = maps.mean(0)
            rows += _table_rows(condition, maps, planted.region, settings.channel_reduction)
        table, shares = pd.DataFrame(rows), _misread_table(planted, misread)
        _write_results(patched.results, settings, planted, pairs, kept, table, shares)
    first = table[table.seeds_averaged].iloc[0]
    return (
        f"wrote shortcut_merits.csv, shortcut_misread.csv, shortcut_maps.npz and figures, in {patched.results.path}; "
        f"{len(shown)} misread test images, area under the curve of the first map's mean {first.area_under_curve:.3f}"
    )


def _check(settings: ShortcutStudy) -> None:
    """Raise UserError for settings that no experiment could have, before anything is trained."""
    check_counts(settings, "num_test", "num_train")
    if not settings.scores:
        raise UserError("--scores names no score whose maps are taken; give some, with commas, such as grad_cos,grad_dot")
    for score in settings.scores:
        MapSettings(score, Smoothing(settings.smoothing_copies, settings.smoothing_deviation))
    reduce_channels(torch.zeros(1, 1, 1), settings.channel_reduction)


def _patch(settings: ShortcutStudy) -> Patch:
    colour = (settings.red, settings.green, settings.blue)
    where = (settings.patch_size, settings.patch_row, settings.patch_column)
    return Patch(colour, *where, settings.patched_class, settings.patched_share)


def conditions(settings: ShortcutStudy, planted: Planted, pairs: Pairs) -> list[Condition]:
    """All rows of the table, the smoothed map of the first score first."""
    smoothing = Smoothing(settings.smoothing_copies, settings.smoothing_deviation)
    unpatched = torch.tensor(sorted(set(range(len(planted.train))) - set(planted.chosen.tolist())))
    drawn = torch.randint(len(unpatched), (len(pairs),), generator=stream(0, "random training images"))
    random_pairs = Pairs(unpatched[drawn], pairs.test)

    def of_pairs(models: list[list[Member]], pairs: Pairs, score: str, smoothed: bool) -> Callable[[], Iterable[Tensor]]:
        chosen = MapSettings(score, smoothing if smoothed else Smoothing())
        makers = [[partial(getattr, member, "model") for member in seed] for seed in models]
        return lambda: maps_of_seeds(makers, planted.train, planted.test, pairs, chosen)

    kinds = (
        ("with the patch", planted.with_patch, "influential", pairs),
        ("without the patch", planted.without, "influential", pairs),
        ("with the patch", planted.with_patch, "random", random_pairs),
    )
    found = []
    for score in settings.scores:
        for models, members, images, chosen in kinds:
            for smoothed in (True, False):
                take = of_pairs(members, chosen, score, smoothed)
                found.append(Condition(models, score, images, smoothed, take))
    for name, method in _OF_ONE_IMAGE.items():
        take = partial(_of_images, method, planted, pairs)
        found.append(Condition("with the patch", name, "influential", False, take))
    return found


def _of_images(method: Callable[[nn.Module, Tensor, Tensor], Tensor], planted: Planted, pairs: Pairs) -> Iterator[Tensor]:
    images, labels = planted.train.inputs[pairs.train], planted.train.labels[pairs.train]
    for seed in planted.with_patch:
        yield torch.stack([method(member.model, images, labels).cpu() for member in seed]).mean(0)


def _grad_cam(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return grad_cam(model, images, labels)[:, None]


_OF_ONE_IMAGE = {"input_gradient": input_gradients, "grad_cam": _grad_cam}


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
            row |= _columns(name, estimate)
    return [single, averaged]


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    """A share and its interval, whose formula does not know that a share lies between 0 and 1."""
    low, high = np.clip([estimate.low, estimate.high], 0, 1)
    return {name: estimate.value, f"{name}_low": low, f"{name}_high": high}


def _misread_table(planted: Planted, misread: dict[str, np.ndarray]) -> pd.DataFrame:
    rows = []
    for models, wrong in misread.items():
        rows.append({"models": models, **_columns("misread", over_seeds(wrong.mean(1)))})
    return pd.DataFrame(rows).assign(test_images=len(planted.test), patched_training_images=len(planted.chosen))


def _write_results(
    results: ResultsFolder,
    settings: ShortcutStudy,
    planted: Planted,
    pairs: Pairs,
    kept: dict[Condition, Tensor],
    table: pd.DataFrame,
    shares: pd.DataFrame,
) -> None:
    folder = results.path
    write_table(folder / "shortcut_merits.csv", table)
    write_table(folder / "shortcut_misread.csv", shares)
    save_arrays(folder / "shortcut_maps.npz", _named_arrays(pairs, planted, kept))
    save_figure(draw_merits(table, planted.region), folder / "shortcut_merits")
    examples = ShortcutExamples(planted.task, planted.train, planted.test, planted.true_labels, planted.region, pairs)
    columns = {
        _column_title(condition): reduce_channels(maps, settings.channel_reduction).numpy()
        for condition, maps in kept.items()
        if condition.images == "influential" and (condition.smoothed or condition.map in _OF_ONE_IMAGE)
    }
    save_figure(draw_shortcut_maps(examples, columns), folder / "shortcut_maps")


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
