"""What a training says of its examples on the way: how often each is forgotten, and how large its margin is on average."""

from collections.abc import Sequence

import numpy as np

from tda.system.devices import on_device
from tda.training.ensembles import seed_run
from tda.training.many_models import train_many
from tda.training.study import Study


def training_history(study: Study, seed_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Forgetting and mean margins (seeds, n_train) float64 of the members' trainings, which are done again and not kept.

    Both are higher for a suspicious example. Forgetting (Toneva et al. 2019): after how many epochs an example is wrong that
    was right an epoch before; one that is never right counts as forgotten in each. Margin: minus the mean over epochs of the
    given label's margin, in log-odds (as the area under the margin of Pleiss et al. 2020, which is of logits).
    """
    epochs = list(range(1, study.plan.epochs + 1))
    runs = [seed_run(study, study.seed(seed_id), epochs=epochs) for seed_id in seed_ids]
    model, train = on_device(study.new_model(), study.device), study.inputs(study.train)
    labels = study.train.labels
    forgotten, margins = (np.zeros((len(seed_ids), len(study.train))) for _ in range(2))
    for number, snapshots in train_many(model, study.plan, study.task.objective, runs, train, evaluate_on=train):
        right = np.stack([(snapshot.evaluation.predictions == labels).numpy() for snapshot in snapshots])
        forgotten[number] = forgetting(right)
        margins[number] = -np.mean([snapshot.evaluation.margins.double().numpy() for snapshot in snapshots], axis=0)
    return forgotten, margins


def forgetting(right: np.ndarray) -> np.ndarray:
    """Epochs (n,) after which an example is wrong that was right before, of right (epochs, n) bool; never right: all epochs."""
    events = (right[:-1] & ~right[1:]).sum(axis=0).astype(np.float64)
    return np.where(right.any(axis=0), events, float(len(right)))
