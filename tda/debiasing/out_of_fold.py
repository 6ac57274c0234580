"""What models that never saw an example say of its label: out-of-fold probabilities."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tda.models.model_state import write_state
from tda.system.devices import on_device
from tda.system.errors import UserError
from tda.system.random_streams import stream
from tda.training.ensembles import seed_run
from tda.training.evaluation import logits_of_split
from tda.training.many_models import train_many
from tda.training.study import Study


def folds_of(labels: Tensor, num_folds: int, seed: int) -> Tensor:
    """Fold (n,) int64 of each example, by the seed's own stream: every class is spread evenly over the folds."""
    generator = stream(seed, "folds")
    order = torch.randperm(len(labels), generator=generator)
    by_class = order[torch.argsort(labels[order], stable=True)]
    folds = torch.empty(len(labels), dtype=torch.int64)
    folds[by_class] = torch.arange(len(labels)) % num_folds
    return folds


def out_of_fold_probabilities(study: Study, seed_ids: Sequence[int], num_folds: int) -> np.ndarray:
    """Probabilities (seeds, n_train, C) float64 that models give the examples of a fold without which they were trained.

    A model of seed s has the start of member s and its batches, with the loss terms of the fold missing: num_folds trainings a
    seed, which are not kept. Where a network has more logits than the task has classes, those of the classes count. Raises
    UserError for fewer than 2 folds or more than there are examples.
    """
    if not 2 <= num_folds <= len(study.train):
        raise UserError(f"--folds must lie in 2 to {len(study.train)}, the number of training examples, not {num_folds}")
    folds = [folds_of(study.train.labels, num_folds, study.seed(seed_id)) for seed_id in seed_ids]
    pairs = [(place, fold) for place in range(len(seed_ids)) for fold in range(num_folds)]
    last, device = study.plan.epochs, study.device
    runs = [
        seed_run(study, study.seed(seed_ids[place]), (folds[place] != fold).float().to(device), [last]) for place, fold in pairs
    ]
    model, train = on_device(study.new_model(), device), study.inputs(study.train)
    found = np.zeros((len(seed_ids), len(study.train), len(study.task.classes)))
    for number, (snapshot,) in train_many(model, study.plan, study.task.objective, runs, train, keep_states=True):
        place, fold = pairs[number]
        held_out = (folds[place] == fold).nonzero().flatten()
        write_state(snapshot.state, model)
        logits = logits_of_split(model.eval(), train[held_out.to(device)]).double().cpu()
        found[place, held_out.numpy()] = functional.softmax(logits[:, : found.shape[2]], dim=1).numpy()
    return found
