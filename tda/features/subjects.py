"""What feature attribution looks at: the models of an ensemble, seed by seed, with their training and test examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tda.data.splits import Split, load_split
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment, ResultsFolder
from tda.experiments.seeds import chosen_seed_ids
from tda.features.seed_maps import Models
from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.quantities import Quantity, cross_entropy_loss
from tda.models.families import family_named
from tda.scores.score_files import load_scores
from tda.statistics.pair_statistics import seed_scores
from tda.system.errors import UserError
from tda.training.ensembles import load_members
from tda.training.many_models import EVALUATION_BATCH, resident_split
from tda.training.members import Member


@dataclass(frozen=True)
class Subject:
    """Models, examples and how to read them.

    seeds: each seed's checkpoints; mean, std: of the normalisation, a channel each; explained_class: of a multi-label
    classifier, whose labels then say whether the class is there; None where labels are classes.
    """

    folder: ResultsFolder
    class_names: Sequence[str]
    mean: Sequence[float]
    std: Sequence[float]
    train: Split
    test: Split
    seeds: Sequence[Models]
    quantity: Quantity = cross_entropy_loss
    explained_class: int | None = None

    def logit_classes(self, split: Split) -> Tensor:
        """The logit (n,) that each example's label is about."""
        return split.labels if self.explained_class is None else torch.full_like(split.labels, self.explained_class)

    def label_name(self, label: int) -> str:
        """A label in words."""
        if self.explained_class is None:
            return self.class_names[label]
        name = self.class_names[self.explained_class]
        return name if label else f"no {name}"


def experiment_subject(experiment: Experiment, num_checkpoints: int, num_seeds: int | None, device: torch.device) -> Subject:
    """The trained ensemble of an experiment; raises UserError if a member is missing."""
    train, test = load_split(experiment.task, "train", experiment.num_per_class), load_split(experiment.task, "test")
    return ensemble_subject(last_members(experiment, num_checkpoints, num_seeds, train, device), train, test)


def ensemble_subject(ensemble: Sequence[Sequence[Member]], train: Split, test: Split) -> Subject:
    """Each seed's members, with their experiment's images as their models take images."""
    first, resident = ensemble[0][0], []
    for split in (train, test):
        pixels = first.family.pixels(first.task, split.images)
        resident.append(resident_split(Split(pixels.images, split.labels, split.indices), first.device))
    models = [[partial(getattr, member, "model") for member in members] for members in ensemble]
    return Subject(first.experiment.results, first.task.class_names, pixels.mean, pixels.std, *resident, models)


def last_members(
    experiment: Experiment, num_checkpoints: int, num_seeds: int | None, train: Split, device: torch.device
) -> list[list[Member]]:
    """Each seed's last checkpoints; raises UserError if one is missing, or if fewer are kept than asked for."""
    if num_seeds is not None and num_seeds < 1:
        raise UserError(f"--num_seeds {num_seeds} is out of range: at least one seed is needed")
    kept = family_named(experiment.model).plan(task_named(experiment.task)).kept_epochs
    if not 1 <= num_checkpoints <= len(kept):
        raise UserError(f"--num_checkpoints {num_checkpoints} is out of range: {len(kept)} checkpoints a seed are kept")
    epochs = kept[-num_checkpoints:]
    return [load_members(experiment, seed_id, epochs, train, device) for seed_id in chosen_seed_ids(None)[:num_seeds]]


def predictions(subject: Subject) -> np.ndarray:
    """Labels (seeds, n_test) that the last checkpoint of each seed predicts."""
    found = []
    for checkpoints in subject.seeds:
        model = checkpoints[-1]()
        with torch.no_grad():
            logits = torch.cat([model(images) for images in subject.test.images.split(EVALUATION_BATCH)])
        chosen = subject.explained_class
        found.append((logits.argmax(1) if chosen is None else (logits[:, chosen] > 0).long()).cpu().numpy())
    return np.stack(found)


def scores_on_disk(subject: Subject, method: str, num_checkpoints: int) -> np.ndarray:
    """A scored method's scores (seeds, n_train, n_test); raises UserError if there are none, or of other examples."""
    if not subject.folder.score_folder(method).exists():
        raise UserError(
            f"{subject.folder.score_folder(method)} is missing; run the scoring script of {method}, or use "
            f"--chosen_by gradients"
        )
    scores = load_scores(subject.folder, method)
    for found, split in ((scores.train_indices, subject.train), (scores.test_indices, subject.test)):
        if not np.array_equal(found, split.indices.numpy()):
            raise UserError(
                f"the scores in {subject.folder.score_folder(method)} are of other examples than the index files name; "
                f"run the scoring script of {method} with --force"
            )
    return seed_scores(scores, min(num_checkpoints, len(scores.epochs)))


def gradient_scores(subject: Subject, cosine: bool) -> np.ndarray:
    """Grad-Cos or Grad-Dot (seeds, n_train, n_test) of each seed's last checkpoint, computed here."""
    left, right = (subject.train.images, subject.train.labels), (subject.test.images, subject.test.labels)
    found = []
    for checkpoints in subject.seeds:
        kernel = gradient_kernel(checkpoints[-1](), left, right, subject.quantity)
        tiny = torch.finfo(kernel.cross.dtype).tiny
        norms = kernel.left_norms.clamp(min=tiny)[:, None] * kernel.right_norms.clamp(min=tiny) if cosine else 1
        found.append((kernel.cross / norms).double().cpu().numpy())
    return np.stack(found)


def results_folder(name: str) -> ResultsFolder:
    """The folder below results/ that a name stands for; raises UserError for a name that is no single folder."""
    if not name or Path(name).name != name:
        raise UserError(f"the name {name!r} is not that of a folder below results/; give letters, digits and underscores")
    return ResultsFolder(name)
