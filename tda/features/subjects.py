"""What feature attribution looks at: the models of an ensemble, seed by seed, with their training and test examples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tda.data.kinds import ImageKind
from tda.data.splits import Split
from tda.experiments.folders import Experiment, ResultsFolder
from tda.features.seed_maps import Models
from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.quantities import Quantity, cross_entropy_loss
from tda.scores.fresh_scores import fresh_scores, read_checkpoints
from tda.statistics.pair_statistics import seed_scores
from tda.system.errors import UserError
from tda.training.evaluation import logits_of_split
from tda.training.members import Member, load_members
from tda.training.study import Study


@dataclass(frozen=True)
class Subject:
    """Models, examples and how to read them.

    seeds: each seed's checkpoints; mean, std: of the normalisation, a channel each; explained_class: of a multi-label
    classifier, whose labels then say whether the class is there; None where labels are classes. experiment: whose ensemble it
    is, seed_ids of which of its seeds, and checkpoints the hashes of its members' content; None and none for photographs.
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
    experiment: Experiment | None = None
    seed_ids: Sequence[int] = ()
    checkpoints: Sequence[str] = ()

    def logit_classes(self, split: Split) -> Tensor:
        """The logit (n,) that each example's label is about."""
        return split.labels if self.explained_class is None else torch.full_like(split.labels, self.explained_class)

    def label_name(self, label: int) -> str:
        """A label in words."""
        if self.explained_class is None:
            return self.class_names[label]
        name = self.class_names[self.explained_class]
        return name if label else f"no {name}"


def ensemble_subject(ensemble: Sequence[Sequence[Member]], test: Split | None = None) -> Subject:
    """Each seed's members, with their study's pictures as their models take pictures; test: other test examples.

    Raises UserError where the task has no pictures.
    """
    study, resident = ensemble[0][0].study, []
    if not isinstance(study.task.kind, ImageKind):
        raise UserError(f"the examples of {study.task.name} are no images, so that there are no pixels to attribute to")
    for split in (study.train, study.test if test is None else test):
        pixels = study.family.pixels(study.task, split.inputs)
        resident.append(replace(split, inputs=pixels.images).to(study.device))
    models = [[partial(getattr, member, "model") for member in members] for members in ensemble]
    seed_ids = [members[0].seed_id for members in ensemble]
    hashes = [member.info["sha256"] for members in ensemble for member in members]
    described = (study.results, study.task.class_names, pixels.mean, pixels.std, *resident, models)
    return Subject(*described, experiment=study.experiment, seed_ids=seed_ids, checkpoints=hashes)


def last_members(study: Study, num_checkpoints: int, seed_ids: Sequence[int]) -> list[list[Member]]:
    """Each seed's last checkpoints; raises UserError if one is missing, or if fewer are kept than asked for."""
    epochs = study.last_epochs(num_checkpoints)
    return [load_members(study, seed_id, epochs) for seed_id in seed_ids]


def predictions(subject: Subject) -> np.ndarray:
    """Labels (seeds, n_test) that the last checkpoint of each seed predicts."""
    found = []
    for checkpoints in subject.seeds:
        logits = logits_of_split(checkpoints[-1](), subject.test)
        chosen = subject.explained_class
        found.append((logits.argmax(1) if chosen is None else (logits[:, chosen] > 0).long()).cpu().numpy())
    return np.stack(found)


def scores_on_disk(subject: Subject, method: str, num_checkpoints: int) -> np.ndarray:
    """A scored method's scores (seeds, n_train, n_test) of the subject's seeds.

    Raises UserError as fresh_scores does, of the first seeds where the subject is of those, and for scores of other examples.
    """
    if subject.experiment is None:
        raise UserError("photographs have no scores on disk; use --chosen_by gradients")
    if not subject.folder.score_folder(method).exists():
        raise UserError(
            f"{subject.folder.score_folder(method)} is missing; run the scoring script of {method}, or use "
            f"--chosen_by gradients"
        )
    seed_ids = list(subject.seed_ids)
    first = len(seed_ids) if seed_ids == list(range(len(seed_ids))) else None
    scores = fresh_scores(read_checkpoints(subject.experiment), method, num_seeds=first)
    scores = scores.of_seeds([scores.seed_ids.index(seed_id) for seed_id in seed_ids])
    for found, split in ((scores.train_indices, subject.train), (scores.test_indices, subject.test)):
        if not np.array_equal(found, split.indices.numpy()):
            raise UserError(
                f"the scores in {subject.folder.score_folder(method)} are of other examples than the index files name; "
                f"run the scoring script of {method} with --force"
            )
    return seed_scores(scores, min(num_checkpoints, len(scores.epochs)))


def gradient_scores(subject: Subject, cosine: bool) -> np.ndarray:
    """Grad-Cos or Grad-Dot (seeds, n_train, n_test), each seed's mean over its checkpoints, computed here."""
    left, right = (subject.train.inputs, subject.train.labels), (subject.test.inputs, subject.test.labels)
    found = []
    for checkpoints in subject.seeds:
        total = 0
        for make in checkpoints:
            kernel = gradient_kernel(make(), left, right, subject.quantity)
            tiny = torch.finfo(kernel.cross.dtype).tiny
            norms = kernel.left_norms.clamp(min=tiny)[:, None] * kernel.right_norms.clamp(min=tiny) if cosine else 1
            total = total + (kernel.cross / norms).double().cpu().numpy()
        found.append(total / len(checkpoints))
    return np.stack(found)


def results_folder(name: str) -> ResultsFolder:
    """The folder below results/ that a name stands for; raises UserError for a name that is no single folder."""
    if not name or Path(name).name != name:
        raise UserError(f"the name {name!r} is not that of a folder below results/; give letters, digits and underscores")
    return ResultsFolder(name)
