"""What feature attribution looks at: the models of an ensemble, seed by seed, with their training and test examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tda.ensembles import load_members
from tda.errors import UserError
from tda.features.seed_maps import Models
from tda.gradient_kernel import gradient_kernel
from tda.many_models import EVALUATION_BATCH, resident_split
from tda.models.families import family_named
from tda.paths import Experiment, ResultsFolder
from tda.quantities import Quantity, cross_entropy_loss
from tda.scores import load_scores
from tda.seeds import chosen_seed_ids
from tda.statistics import seed_scores
from tda.subsets import Split, load_split
from tda.tasks import task_named


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


def require_image_inputs(experiment: Experiment) -> None:
    """Raise UserError where a family's models take something else than the task's images, for maps are of pixels."""
    task = task_named(experiment.task)
    image = torch.zeros(1, task.channels, task.image_size, task.image_size)
    if family_named(experiment.model).inputs(task, image).shape != image.shape:
        raise UserError(
            f"--model {experiment.model} cannot be explained by pixels: its models take embeddings, not images; "
            f"choose a model that takes images, such as cnn"
        )


def experiment_subject(experiment: Experiment, num_checkpoints: int, num_seeds: int | None, device: torch.device) -> Subject:
    """The trained ensemble of an experiment; raises UserError if a member is missing."""
    require_image_inputs(experiment)
    task = task_named(experiment.task)
    kept = family_named(experiment.model).plan(task).kept_epochs
    if not 1 <= num_checkpoints <= len(kept):
        raise UserError(f"--num_checkpoints {num_checkpoints} is out of range: {len(kept)} checkpoints a seed are kept")
    train, test = load_split(task.name, "train", experiment.num_per_class), load_split(task.name, "test")
    seeds = []
    for seed_id in chosen_seed_ids(None)[:num_seeds]:
        members = load_members(experiment, seed_id, kept[-num_checkpoints:], train, device)
        seeds.append([partial(getattr, member, "model") for member in members])
    names = task.class_names
    resident = (resident_split(split, device) for split in (train, test))
    return Subject(experiment.results, names, task.mean, task.std, *resident, seeds)


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
