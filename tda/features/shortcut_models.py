"""The two ensembles of the shortcut study, with and without the patch, and the test images that it misleads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tda.data.splits import Split
from tda.data.tasks import Task, task_named
from tda.experiments.folders import Experiment
from tda.features.influence_maps import Pairs
from tda.features.shortcut import Patch, ShortcutExperiment, plant
from tda.methods import method_named
from tda.models.families import family_named
from tda.system.errors import UserError
from tda.training.ensembles import load_members, train_ensemble
from tda.training.many_models import evaluate, resident_split
from tda.training.members import Member


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


def trained_with_and_without(
    experiment: ShortcutExperiment,
    patch: Patch,
    seed_ids: Sequence[int],
    num_checkpoints: int,
    train: Split,
    test: Split,
    device: torch.device,
    force: bool,
) -> Planted:
    """Both ensembles' last checkpoints, trained as far as they are missing, and the examples on the device.

    force: train the one with the patch again. Raises UserError for an unusable patch or members of other data.
    """
    _require_training_from_scratch(experiment)
    task = task_named(experiment.task)
    region = patch.region(task)
    planted, chosen = plant(train, patch, task)
    plain = Experiment(experiment.model, experiment.task, experiment.num_per_class)
    train_ensemble(experiment, seed_ids, planted, test, device, force)
    train_ensemble(plain, seed_ids, train, test, device, force=False)
    kept = family_named(experiment.model).plan(task).kept_epochs
    if not 1 <= num_checkpoints <= len(kept):
        raise UserError(f"--num_checkpoints {num_checkpoints} is out of range: {len(kept)} checkpoints a seed are kept")
    epochs = kept[-num_checkpoints:]
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


def _require_training_from_scratch(experiment: Experiment) -> None:
    if family_named(experiment.model).fine_tuned is not None:
        raise UserError(
            f"--model {experiment.model} cannot be taught a patch: its models are fine-tuned on what a base makes of images; "
            f"choose a model that is trained on the images themselves, such as cnn"
        )


def predicted_as_patch(planted: Planted) -> dict[str, np.ndarray]:
    """Whether each seed's last member takes each patched test image of another class for the patch's: (seeds, n_test) bool."""
    label = int(planted.test.labels[0])
    return {
        name: np.stack([evaluate(seed[-1].model, planted.test).predictions.numpy() == label for seed in seeds])
        for name, seeds in (("with the patch", planted.with_patch), ("without the patch", planted.without))
    }


def misread_by_most(planted: Planted, misread: dict[str, np.ndarray], count: int) -> Tensor:
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
