"""Step 3, beside the pipeline: TRAK of a classifier of photographs, streaming from folders to the extremes of each target."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from tda.data.picture_folders import PictureFiles, pictures_in
from tda.data.pictures import decoded
from tda.experiments.folders import root
from tda.models.photograph_classifiers import normalised, photograph_classifier, photograph_state
from tda.scores.tables import write_table
from tda.settings import FolderAttribution
from tda.settings.of_experiment import budget_in_bytes, check_counts
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.system.files import locked, sha256, write_text
from tda.trak import TRAKer
from tda.trak.folder import checked_name

TARGETS = "targets"


@dataclass(frozen=True)
class Photographs(Dataset):
    """Photographs that are decoded when they are asked for: images (3, size, size) float32 and labels."""

    files: PictureFiles
    labels: list[int]
    image_size: int

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        """A photograph as networks of ImageNet take it: scaled to 8/7 of the size, of which the middle is taken."""
        path = self.files.paths[position]
        size, whole = self.image_size, self.image_size * 8 // 7
        start = (whole - size) // 2
        pixels = decoded([path], [str(path)], channels=3, size=whole, crop=True)
        middle = torch.from_numpy(pixels[:, start : start + size, start : start + size].copy())
        return normalised(middle)[0], self.labels[position]


def main(settings: FolderAttribution) -> str:
    """Featurize what is missing; without --shard also merge, score and write the table. Returns the closing line.

    Raises UserError for unusable settings, folders or checkpoints, or photographs that are not those of before.
    """
    prepare_process()
    check_counts(settings, "image_size", "dimension", "k", "num_shards", "batch_size")
    if settings.workers < 0:
        raise UserError(f"--workers {settings.workers} is no number of processes; choose 0 or more")
    if settings.shard is not None and not 0 <= settings.shard < settings.num_shards:
        raise UserError(f"--shard {settings.shard} must lie in 0 to {settings.num_shards - 1}, or --num_shards be larger")
    folder = root() / "results" / checked_name(settings.name)
    train, targets = _photographs(settings)
    model = photograph_classifier(settings.model, 1 + max(train.labels), settings.image_size)
    states = [partial(photograph_state, model, checkpoint) for checkpoint in settings.checkpoints]
    if not states:
        raise UserError("--checkpoints names none; give files of state dicts, or the word random")
    shard = _bounds(len(train), settings)
    if settings.force:
        _forget(folder, shard)
    _keep_listing(folder, train, targets, settings)
    traker = _traker(folder, model, len(train), settings)
    for model_id, state in enumerate(states):
        if shard is None and traker.has_shards(model_id):
            traker.merge_shards([model_id])
            continue
        traker.load_checkpoint(state(), model_id, shard=shard)
        _fill(traker, traker.featurize, train, shard[0] if shard else 0, f"gradients of checkpoint {model_id}", settings)
    if shard is not None:
        return f"wrote rows {shard[0]} to {shard[1] - 1} of {len(train)} photographs and {len(states)} checkpoints, in {folder}"
    traker.finalize_features()
    for model_id, state in enumerate(states):
        traker.start_scoring_checkpoint(TARGETS, state(), model_id, len(targets))
        _fill(traker, traker.score, targets, 0, f"targets by checkpoint {model_id}", settings)
    found = traker.top_examples(TARGETS, settings.k)
    rows = [
        _rows(end, positions, scores, train, targets)
        for end, positions, scores in (
            ("helpful", found.helpful, found.helpful_scores),
            ("harmful", found.harmful, found.harmful_scores),
        )
    ]
    write_table(folder / "top_photographs.csv", pd.concat(rows, ignore_index=True))
    return f"wrote top_photographs.csv of {len(targets)} targets and {len(train)} training photographs, in {folder}"


def _photographs(settings: FolderAttribution) -> tuple[Photographs, Photographs]:
    """Training photographs and targets, with the training folders' classes; raises UserError for a class of targets alone."""
    parts = {}
    for name in ("train", "targets"):
        path = Path(getattr(settings, name))
        path = path if path.is_absolute() else root() / path
        if not path.is_dir():
            raise UserError(f"--{name} {path} is no folder; give one that holds a folder of photographs for each class")
        parts[name] = pictures_in(path)
    classes = {name: number for number, name in enumerate(sorted(set(parts["train"].class_names)))}
    unknown = sorted(set(parts["targets"].class_names) - set(classes))
    if unknown:
        raise UserError(f"the class {unknown[0]} of the targets has no training photographs; name folders alike in both")
    labels = {name: [classes[each] for each in files.class_names] for name, files in parts.items()}
    return tuple(Photographs(parts[name], labels[name], settings.image_size) for name in parts)


def _keep_listing(folder: Path, train: Photographs, targets: Photographs, settings: FolderAttribution) -> None:
    """Tie the folder to these files, by names and sizes, for what is finished is not decoded again."""
    described = {"image_size": settings.image_size}
    for name, split in (("train", train), ("targets", targets)):
        files = zip(split.files.paths, split.labels, strict=True)
        lines = (f"{path.name} {path.stat().st_size} {label}\n".encode() for path, label in files)
        described[name] = sha256(*lines)
    path = folder / "photographs.json"
    with locked(path):
        if not path.exists():
            write_text(path, json.dumps(described, indent=1) + "\n")
        try:
            kept = json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"{path} is damaged; delete its folder or choose another --name") from error
    for name, value in described.items():
        if kept.get(name) != value:
            raise UserError(f"{folder} was begun with other {name} than now; choose another --name, or delete that folder")


def _forget(folder: Path, shard: tuple[int, int] | None) -> None:
    """Delete what is to be computed again: everything, or the shard's rows of every checkpoint."""
    if shard is None:
        (folder / "photographs.json").unlink(missing_ok=True)
    for path in [folder / "trak"] if shard is None else folder.glob(f"trak/*/shards/{shard[0]}-{shard[1]}"):
        shutil.rmtree(path, ignore_errors=True)


def _traker(folder: Path, model: nn.Module, count: int, settings: FolderAttribution) -> TRAKer:
    return TRAKer(
        model,
        "image_classification",
        count,
        folder / "trak",
        device=settings.device,
        proj_dim=settings.dimension,
        use_half_precision=settings.half_precision,
        keep_features=False,
        memory_budget=budget_in_bytes(settings.memory_budget),
    )


def _bounds(count: int, settings: FolderAttribution) -> tuple[int, int] | None:
    """First and last but one row of the shard, all shards of nearly one size; None without a shard."""
    if settings.shard is None:
        return None
    if settings.num_shards > count:
        raise UserError(f"--num_shards {settings.num_shards} is more than the {count} training photographs; choose fewer")
    return tuple(count * number // settings.num_shards for number in (settings.shard, settings.shard + 1))


def _fill(
    traker: TRAKer, add: Callable[..., None], photographs: Photographs, start: int, title: str, settings: FolderAttribution
) -> None:
    """Bring the batches of which a row is missing; the bar tells the time that is left."""
    finished = traker.finished
    batches = [
        np.arange(first, min(first + settings.batch_size, len(finished)))
        for first in range(0, len(finished), settings.batch_size)
    ]
    missing = [start + batch for batch in batches if not finished[batch].all()]
    left = sum(map(len, missing))
    with tqdm(total=len(finished), initial=len(finished) - left, desc=title, unit="image", delay=2) as bar:
        for positions, batch in zip(missing, _loaded(photographs, missing, settings.workers), strict=True):
            add(batch, inds=positions)
            bar.update(len(positions))


def _loaded(photographs: Photographs, batches: list[np.ndarray], workers: int) -> Iterator[list[Tensor]]:
    return iter(DataLoader(photographs, batch_sampler=[batch.tolist() for batch in batches], num_workers=workers))


def _rows(end: str, positions: np.ndarray, scores: np.ndarray, train: Photographs, targets: Photographs) -> pd.DataFrame:
    places, columns = (each.ravel() for each in np.indices(positions.shape))
    chosen = positions.ravel()
    return pd.DataFrame(
        {
            "target": [str(targets.files.paths[column]) for column in columns],
            "target_class": [targets.files.class_names[column] for column in columns],
            "end": end,
            "place": places + 1,
            "photograph": [str(train.files.paths[position]) for position in chosen],
            "class": [train.files.class_names[position] for position in chosen],
            "score": scores.ravel(),
        }
    )
