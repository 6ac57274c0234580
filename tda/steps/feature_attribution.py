"""Step 9: training feature attribution: which pairs, their maps over the ensemble, and what is written of them."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tda.experiments.manifest import chosen_experiment
from tda.features.baselines import grad_cam
from tda.features.influence_maps import Pairs, Smoothing
from tda.features.map_files import save_arrays
from tda.features.photographs import folder_subject, voc_subject
from tda.features.reductions import centre_of_mass, reduce_channels
from tda.features.seed_maps import MapSettings, PixelStatistics, maps_of_seeds, pixel_statistics
from tda.features.selection import chosen_tests, most_helpful, named_indices
from tda.features.subjects import Subject, ensemble_subject, gradient_scores, last_members, predictions, scores_on_disk
from tda.figures.feature_attribution import Explained, draw_explained
from tda.figures.saving import save_figure
from tda.scores.tables import write_table
from tda.settings import FeatureAttribution
from tda.settings.of_experiment import check_counts
from tda.statistics.extremes import majority
from tda.system.devices import pick_device, prepare_process
from tda.system.errors import UserError
from tda.training.study import open_study

_TOP_SHARE = 0.1


def main(settings: FeatureAttribution) -> str:
    """Choose the pairs, take the maps, write .npz, CSV and figures; returns the closing line.

    Raises UserError for unusable settings or missing inputs.
    """
    check_counts(settings, "num_test", "num_train")
    named_indices(settings.tests)
    prepare_process()
    smoothing = Smoothing(settings.smoothing_copies, settings.smoothing_deviation)
    chosen_map = MapSettings(settings.score, smoothing, settings.damping)
    reduce_channels(torch.zeros(1, 1, 1), settings.channel_reduction, settings.absolute)
    if settings.source != "experiment":
        return _attribute(settings, chosen_map, photographs_of(settings))
    study = open_study(chosen_experiment(settings), settings.device)
    seed_ids = study.seed_ids(settings.seed_id, settings.num_seeds)
    subject = ensemble_subject(last_members(study, settings.num_checkpoints, seed_ids))
    hashes = {"train": subject.train.fingerprint, "test": subject.test.fingerprint}
    with study.step(f"feature attribution of {settings.score}", vars(settings), hashes, seed_ids):
        return _attribute(settings, chosen_map, subject)


def _attribute(settings: FeatureAttribution, chosen_map: MapSettings, subject: Subject) -> str:
    scores = _scores(settings, subject)
    predicted = majority(predictions(subject))
    wrong = predicted != subject.test.labels.cpu().numpy()
    tests = chosen_tests(settings.tests, settings.num_test, subject.test.indices, wrong, scores)
    pairs = most_helpful(scores.mean(0), tests, settings.num_train)
    maps = maps_of_seeds(subject.seeds, subject.train, subject.test, pairs, chosen_map, subject.quantity)
    statistics = pixel_statistics(torch.stack(list(maps)))
    folder = subject.folder.path / "feature_attribution"
    save_arrays(folder / f"maps_{settings.score}.npz", _arrays(subject, pairs, statistics))
    table = pair_table(subject, pairs, scores, predicted, statistics, settings.channel_reduction)
    write_table(folder / f"pairs_{settings.score}.csv", table)
    cams = _test_cams(subject, tests)
    for number, test in enumerate(tests.tolist()):
        rows = torch.nonzero(pairs.test == test).flatten()
        explained = Explained(subject, pairs, rows, statistics, table, cams[number], int(predicted[test]))
        figure = draw_explained(explained, settings.channel_reduction, settings.absolute)
        save_figure(figure, folder / f"maps_{settings.score}_test_{int(subject.test.indices[test])}")
    return f"wrote maps of {len(pairs)} pairs over {len(subject.seeds)} seeds, their CSV and {len(tests)} figures, in {folder}"


def photographs_of(settings: FeatureAttribution) -> Subject:
    """The classifier and the photographs that the settings name; raises UserError for an unknown source."""
    device = pick_device(settings.device)
    options = (settings.network, settings.checkpoints, settings.parameters, settings.image_size, settings.images_per_class)
    if settings.source == "folders":
        return folder_subject(settings.name, Path(settings.folder), *options, device)
    if settings.source == "voc2012":
        return voc_subject(settings.name, settings.explained_class, *options, device)
    raise UserError(f"unknown source {settings.source}; known ones are experiment, folders and voc2012")


def _scores(settings: FeatureAttribution, subject: Subject) -> np.ndarray:
    if settings.chosen_by == "gradients":
        return gradient_scores(subject, cosine=settings.score == "grad_cos")
    return scores_on_disk(subject, settings.chosen_by, settings.num_checkpoints)


def _test_cams(subject: Subject, tests: Tensor) -> np.ndarray:
    """Grad-CAM (k, h, w) of the test images for their own classes, averaged over the seeds' last checkpoints."""
    images, classes = subject.test.inputs[tests], subject.logit_classes(subject.test)[tests]
    found = [grad_cam(checkpoints[-1](), images, classes).cpu() for checkpoints in subject.seeds]
    return torch.stack(found).mean(0).numpy()


def _arrays(subject: Subject, pairs: Pairs, statistics: PixelStatistics) -> dict[str, np.ndarray]:
    arrays = {
        "train_idx": subject.train.indices[pairs.train].numpy(),
        "test_idx": subject.test.indices[pairs.test].numpy(),
    }
    if subject.experiment is not None:
        arrays["checkpoints"] = np.array(subject.checkpoints, dtype=str)
    found = {name: values for name, values in vars(statistics).items() if values is not None}
    return arrays | {name: values.astype(np.float32) for name, values in found.items()}


def pair_table(
    subject: Subject, pairs: Pairs, scores: np.ndarray, predicted: np.ndarray, statistics: PixelStatistics, reduction: str
) -> pd.DataFrame:
    """A row for each pair: who they are, the score's mean and std over seeds, and where the mean absolute map's mass lies.

    centre_row, centre_column: its centre, in pixels from the upper left; top_tenth: the share that its largest tenth of pixels
    hold (0.1 if it is flat); reliable_mass: the share on pixels of which a channel has |mean| > 2 std over the seeds. With one
    seed, what needs two is NaN. test_file, train_file: where examples have files of their own.
    """
    train, test = pairs.train.numpy(), pairs.test.numpy()
    absolute = reduce_channels(torch.from_numpy(statistics.mean), reduction, absolute=True)
    total = absolute.sum((1, 2)).clamp(min=torch.finfo(absolute.dtype).tiny)
    largest = absolute.flatten(1).sort(dim=1, descending=True).values
    count = max(1, round(_TOP_SHARE * largest.shape[1]))
    several, reliable_mass = statistics.signal_to_noise is not None, np.full(len(pairs), np.nan)
    if several:
        steady = torch.from_numpy((statistics.signal_to_noise > 2).any(axis=1))
        reliable_mass = ((absolute * steady).sum((1, 2)) / total).numpy()
    centre = centre_of_mass(absolute).numpy()
    name = partial(map, subject.label_name)
    table = pd.DataFrame(
        {
            "test_idx": subject.test.indices.numpy()[test],
            "test_class": list(name(subject.test.labels.cpu().numpy()[test].tolist())),
            "predicted": list(name(predicted[test].tolist())),
            "train_idx": subject.train.indices.numpy()[train],
            "train_class": list(name(subject.train.labels.cpu().numpy()[train].tolist())),
            "score_mean": scores.mean(0)[train, test],
            "score_std": scores.std(0, ddof=1)[train, test] if several else np.nan,
            "centre_row": centre[:, 0],
            "centre_column": centre[:, 1],
            "top_tenth": (largest[:, :count].sum(1) / total).numpy(),
            "reliable_mass": reliable_mass,
        }
    )
    for column, split, positions in (("test", subject.test, test), ("train", subject.train, train)):
        if split.files is not None:
            table.insert(table.columns.get_loc(f"{column}_idx") + 1, f"{column}_file", split.files[positions])
    return table
