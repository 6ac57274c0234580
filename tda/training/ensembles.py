"""Train an experiment's ensemble, and look at it as a whole."""

from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from tda.data.splits import Split, load_split
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment
from tda.experiments.manifest import versions
from tda.experiments.seeds import load_seeds
from tda.models.families import family_of, new_model
from tda.models.model_state import read_state, write_state
from tda.system.devices import pick_device
from tda.system.errors import UserError
from tda.training.many_models import evaluate, on_device, train_many
from tda.training.members import Member, load_member, model_inputs, save_checkpoint
from tda.training.runs import Run, Snapshot


def seed_run(
    experiment: Experiment,
    seed: int,
    num_train: int,
    weights: torch.Tensor | None = None,
    epochs: Sequence[int] | None = None,
) -> Run:
    """The whole training of one seed; `weights` leave examples out.

    epochs: after which the model is looked at, by default the kept ones.
    """
    task, family = task_named(experiment.task), family_of(experiment)
    plan = family.plan(task)
    snapshots = [epoch * plan.steps_per_epoch(num_train) for epoch in epochs or plan.kept_epochs]
    start = read_state(new_model(family, task, seed))
    return Run(start, plan.batches(seed, num_train), snapshots, weights, seed)


def train_ensemble(
    experiment: Experiment,
    seed_ids: Sequence[int],
    train: Split,
    test: Split,
    device: torch.device,
    force: bool,
    early_epochs: Sequence[int] = (),
) -> int:
    """Train the members of the given seeds that are missing and write each as it is done; returns the number of seeds trained.

    early_epochs: epochs to keep besides those of the plan.
    Raises UserError if such an epoch is not one of the training, or if an existing checkpoint is damaged or foreign (`force`
    replaces it).
    """
    seeds = load_seeds()
    family, task = family_of(experiment), task_named(experiment.task)
    plan = family.plan(task)
    if not all(1 <= epoch <= plan.epochs for epoch in early_epochs):
        raise UserError(f"cannot keep the epochs {list(early_epochs)}: the training has epochs 1 to {plan.epochs}")
    epochs = sorted({*plan.checkpoint_epochs, *early_epochs})
    missing = [seed_id for seed_id in seed_ids if force or not _is_trained(experiment, seed_id, epochs, train)]
    runs = [seed_run(experiment, seeds[seed_id], len(train), epochs=epochs) for seed_id in missing]
    model = on_device(new_model(family, task, seed=0), device)
    inputs, test_inputs = (model_inputs(family, task, split, device) for split in (train, test))
    origin = family.origin(task)
    trained = train_many(model, plan, runs, inputs, keep_states=True) if runs else ()
    for number, snapshots in tqdm(trained, total=len(runs), desc="training seeds", delay=2):
        seed_id = missing[number]
        for epoch, snapshot in zip(epochs, snapshots, strict=True):
            info = _describe(model, snapshot, inputs, test_inputs)
            info |= {"seed": seeds[seed_id], "data": train.fingerprint(), "plan": plan.as_dict()}
            info |= {"origin": origin} if origin else {}
            save_checkpoint(experiment, seed_id, epoch, snapshot.state, info)
    return len(missing)


def _is_trained(experiment: Experiment, seed_id: int, epochs: Sequence[int], train: Split) -> bool:
    existing = [epoch for epoch in epochs if experiment.checkpoint_file(seed_id, epoch).exists()]
    for epoch in existing:
        load_member(experiment, seed_id, epoch, train.fingerprint(), torch.device("cpu"))
    return existing == list(epochs)


def _describe(model: torch.nn.Module, snapshot: Snapshot, train: Split, test: Split) -> dict:
    write_state(snapshot.state, model)
    on_train, on_test = evaluate(model, train), evaluate(model, test)
    return {
        "train_loss": float(on_train.losses.double().mean()),
        "train_accuracy": _accuracy(on_train.predictions, train),
        "test_loss": float(on_test.losses.double().mean()),
        "test_accuracy": _accuracy(on_test.predictions, test),
        "versions": versions(),
    }


def _accuracy(predictions: torch.Tensor, split: Split) -> float:
    return float((predictions == split.labels.cpu()).double().mean())


def load_members(
    experiment: Experiment, seed_id: int, epochs: Sequence[int], train: Split, device: torch.device
) -> list[Member]:
    """Members of one seed at the given epochs, their models built; raises UserError as load_member does."""
    members = [load_member(experiment, seed_id, epoch, train.fingerprint(), device) for epoch in epochs]
    for member in members:
        # Building a model borrows torch's global generator, which threads that score members must not do.
        _ = member.model
    return members


def predicted_labels(experiment: Experiment, seed_ids: Sequence[int], test: Split) -> np.ndarray:
    """Labels (seeds, n_test) int64 that the last checkpoint of each seed predicts."""
    last = family_of(experiment).plan(task_named(experiment.task)).kept_epochs[-1]
    data = load_split(experiment.task, "train", experiment.num_per_class).fingerprint()
    members = [load_member(experiment, seed_id, last, data, pick_device()) for seed_id in seed_ids]
    inputs = members[0].inputs(test)
    return np.stack([evaluate(member.model, inputs).predictions.numpy() for member in members])
