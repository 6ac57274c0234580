"""The two ensembles of the shortcut study, with and without the patch, and the test images that it misleads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tda.data.splits import Split
from tda.data.tasks import Task
from tda.features.influence_maps import Pairs
from tda.features.shortcut import Patch, plant
from tda.methods.registry import load_method
from tda.system.errors import UserError
from tda.training.ensembles import train_ensemble
from tda.training.evaluation import evaluate
from tda.training.members import Member, load_members
from tda.training.study import Study


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


def trained_with_and_without(study: Study, patch: Patch, seed_ids: Sequence[int], num_checkpoints: int, force: bool) -> Planted:
    """Both ensembles' last checkpoints, trained as far as they are missing, and the examples on the device.

    study: the plain one; force: train the ensemble with the patch again. Raises UserError for an unusable patch or members of
    other data.
    """
    if study.family.fine_tuned is not None:
        raise UserError(
            f"--model {study.family.name} cannot be taught a patch: its models are fine-tuned on what a base makes of images; "
            f"choose a model that is trained on the images themselves, such as cnn"
        )
    test, epochs = study.test, study.last_epochs(num_checkpoints)
    region = patch.region(study.task)
    planted, chosen = plant(study.train, patch, study.task)
    patched = shortcut_study(study, planted)
    train_ensemble(patched, seed_ids, force)
    train_ensemble(study, seed_ids, force=False)
    others = torch.nonzero(test.labels != patch.label).flatten()
    misled = Split(patch.on(test.inputs[others], study.task), torch.full_like(others, patch.label), test.indices[others])
    return Planted(
        study.task,
        [load_members(patched, seed_id, epochs) for seed_id in seed_ids],
        [load_members(study, seed_id, epochs) for seed_id in seed_ids],
        study.inputs(planted),
        chosen,
        study.inputs(misled),
        test.labels[others],
        region,
    )


def shortcut_study(study: Study, planted: Split) -> Study:
    """The study whose training images carry the patch; its members and results lie beside those of the plain one."""
    variant = f"{study.experiment.variant}_shortcut" if study.experiment.variant else "shortcut"
    return replace(study, experiment=replace(study.experiment, variant=variant), train=planted)


def predicted_as_patch(planted: Planted) -> dict[str, np.ndarray]:
    """Whether each seed's last member takes each patched test image of another class for the patch's: (seeds, n_test) bool.

    Of the models "with the patch" and of those "without the patch", by these names.
    """
    label = int(planted.test.labels[0])
    objective, found = planted.task.objective, {}
    for name, seeds in (("with the patch", planted.with_patch), ("without the patch", planted.without)):
        predicted = (evaluate(seed[-1].model, objective, planted.test).predictions.numpy() for seed in seeds)
        found[name] = np.stack([labels == label for labels in predicted])
    return found


def misread_by_most(misread: dict[str, np.ndarray], count: int) -> Tensor:
    """Positions of test images that most models with the patch misread and most without do not, spread over the split.

    misread: as predicted_as_patch. Raises UserError where there is none.
    """
    fooled = (misread["with the patch"].mean(0) > 0.5) & (misread["without the patch"].mean(0) <= 0.5)
    found = np.flatnonzero(fooled)
    if len(found) == 0:
        raise UserError("the patch misleads no test image, so there is no map to take; choose a larger patch or share")
    # The split's classes take turns or follow each other: evenly spaced positions hold all.
    return torch.from_numpy(found[np.unique(np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int))])


def influential_pairs(planted: Planted, shown: Tensor, num_train: int) -> Pairs:
    """Each shown test image with the patched training images of the largest mean Grad-Cos over the seeds, largest first."""
    few, train = planted.test[shown], planted.train[planted.chosen]
    scorer = load_method("grad_cos")
    scores = [next(iter(scorer.score([seed[-1]], train, few, scorer.settings))).scores for seed in planted.with_patch]
    mean = torch.stack(scores).double().mean(0)
    best = mean.argsort(dim=0, descending=True, stable=True)[:num_train].cpu()
    return Pairs(planted.chosen[best.T.flatten()], shown.repeat_interleave(len(best)))
