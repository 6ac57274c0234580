"""Train a study's ensemble, and look at it as a whole."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from tda.data.splits import Split
from tda.experiments.manifest import versions
from tda.gradients.objectives import Objective
from tda.models.model_state import read_state, write_state
from tda.scores.fresh_scores import remove_outdated
from tda.system.devices import on_device
from tda.system.errors import UserError
from tda.system.workers import in_order
from tda.training.checkpoints import save_checkpoint
from tda.training.evaluation import evaluate
from tda.training.many_models import train_many
from tda.training.members import Member, built, load_member
from tda.training.runs import Run
from tda.training.study import Study


def seed_run(study: Study, seed: int, weights: torch.Tensor | None = None, epochs: Sequence[int] | None = None) -> Run:
    """The whole training of one seed on all that the study's models learn from; `weights` leave examples out.

    epochs: after which the model is looked at, by default the kept ones. The start is the seed's; the batches are too, unless
    the study holds them to those of another seed.
    """
    num_train = len(study.learned)
    order = seed if study.order_seed is None else study.order_seed
    snapshots = [epoch * study.plan.steps_per_epoch(num_train) for epoch in epochs or study.plan.kept_epochs]
    return Run(read_state(study.new_model(seed)), study.plan.batches(order, num_train), snapshots, weights, order)


def train_ensemble(study: Study, seed_ids: Sequence[int], force: bool, early_epochs: Sequence[int] = ()) -> int:
    """Train the members of the given seeds that are missing and write each as it is done; returns the number of seeds trained.

    early_epochs: epochs to keep besides those of the plan.
    force: train them all, and delete what they had of other epochs. Raises UserError if an early epoch is not one of the
    training, or if an existing checkpoint is damaged or foreign (`force` replaces it).
    """
    plan = study.plan
    if not all(1 <= epoch <= plan.epochs for epoch in early_epochs):
        raise UserError(f"cannot keep the epochs {list(early_epochs)}: the training has epochs 1 to {plan.epochs}")
    epochs = sorted({*plan.checkpoint_epochs, *early_epochs})
    missing = [seed_id for seed_id in seed_ids if force or not _is_trained(study, seed_id, epochs)]
    runs = [seed_run(study, study.seed(seed_id), epochs=epochs) for seed_id in missing]
    model = on_device(study.new_model(), study.device)
    train, test = study.inputs(study.learned), study.inputs(study.test)
    trained = train_many(model, plan, study.task.objective, runs, train, keep_states=True) if runs else ()
    for number, snapshots in tqdm(trained, total=len(runs), desc="training seeds", delay=2):
        for epoch, snapshot in zip(epochs, snapshots, strict=True):
            write_state(snapshot.state, model)
            info = _described(model, study.task.objective, train, test) | {"versions": versions()}
            save_checkpoint(study, missing[number], epoch, snapshot.state, info)
        if force:
            remove_outdated(study.experiment.seed_folder(missing[number]), epochs, "ckpt_epoch_*.safetensors")
    return len(missing)


def members_in_memory(study: Study, seed_ids: Sequence[int], epochs: Sequence[int] | None = None) -> list[Member]:
    """Checkpoints of each seed, trained here and not kept on disk, seed by seed; epochs: which, by default the last alone."""
    epochs = [study.plan.epochs] if epochs is None else list(epochs)
    runs = [seed_run(study, study.seed(seed_id), epochs=epochs) for seed_id in seed_ids]
    model = on_device(study.new_model(), study.device)
    train, info = study.inputs(study.learned), {"origin": study.family.origin(study.task)}
    trained = dict(train_many(model, study.plan, study.task.objective, runs, train, keep_states=True))
    found = [
        Member(study, seed_id, epoch, snapshot.state, info)
        for number, seed_id in enumerate(seed_ids)
        for epoch, snapshot in zip(epochs, trained[number], strict=True)
    ]
    return built(found)


def predicted_labels(study: Study, seed_ids: Sequence[int]) -> np.ndarray:
    """Labels (seeds, n_test) int64 that the last checkpoint of each seed predicts."""
    objective = study.task.objective
    return said_at_last(study, seed_ids, study.test, lambda model, test: evaluate(model, objective, test).predictions).numpy()


def said_at_last(
    study: Study, seed_ids: Sequence[int], split: Split, measure: Callable[[nn.Module, Split], torch.Tensor]
) -> torch.Tensor:
    """What the last checkpoint of each seed says of a split: measure(model, split) of each, (seeds, ...) on the CPU."""
    members = built([load_member(study, seed_id, study.plan.kept_epochs[-1]) for seed_id in seed_ids])
    inputs = study.inputs(split)

    def ask(number: int) -> torch.Tensor:
        return measure(members[number].model, inputs).cpu()

    # On a CPU members are asked beside each other, each with one thread, as they are scored.
    numbers = range(len(members))
    return torch.stack(list(map(ask, numbers) if study.device.type == "cuda" else in_order(ask, len(numbers))))


def _is_trained(study: Study, seed_id: int, epochs: Sequence[int]) -> bool:
    existing = [epoch for epoch in epochs if study.experiment.checkpoint_file(seed_id, epoch).exists()]
    for epoch in existing:
        load_member(study, seed_id, epoch)
    return existing == list(epochs)


def _described(model: nn.Module, objective: Objective, train: Split, test: Split) -> dict[str, float]:
    """Mean losses in nats, and shares of right predictions, on both splits."""
    splits, found = {"train": train, "test": test}, {}
    # By one thread each, as all that is written: several would add up in another order.
    evaluations = in_order(lambda number: evaluate(model, objective, list(splits.values())[number]), len(splits))
    for (name, split), evaluation in zip(splits.items(), evaluations, strict=True):
        found[f"{name}_loss"] = float(evaluation.losses.double().mean())
        found[f"{name}_accuracy"] = float(objective.correct(evaluation.predictions, split.labels.cpu()).mean())
    return found
