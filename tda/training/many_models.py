"""Train and evaluate many models of one architecture that differ in their start, batches and counted examples.

The ensemble, leave-one-out, added training steps and subset retrainings all go through `train_many`. On a GPU the
models are stacked (stacked_models.py); on a CPU every model is trained by one thread, several beside each other, which
makes a result independent of how many models, threads or processes work at once.
"""

import copy
from collections.abc import Iterator, Sequence
from threading import local

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tda.data.splits import Split
from tda.gradients.objectives import Objective
from tda.models.model_state import read_state, write_state
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError
from tda.system.inputs import call
from tda.system.workers import as_completed
from tda.training.evaluation import evaluate
from tda.training.runs import Run, Snapshot
from tda.training.stacked_models import can_be_stacked, train_stacked
from tda.training.step_noise import StepNoise
from tda.training.training_step import make_optimizer, training_step


def train_many(
    model: nn.Module,
    plan: TrainingPlan,
    objective: Objective,
    runs: Sequence[Run],
    train: Split,
    evaluate_on: Split | None = None,
    keep_states: bool = False,
) -> Iterator[tuple[int, list[Snapshot]]]:
    """Train every run and yield (its number, its snapshots) as it ends, in no fixed order.

    `model` gives the architecture; it is copied, not changed. The device is that of `train`. Raises UserError where a batch
    is one example, of which a network that normalises over batches has one value a channel.
    """
    _check_batches_of_one(model, runs, train)
    on_gpu = train.device.type == "cuda"
    alone = objective.compares_examples or plan.random_crop or plan.mixed_precision
    if on_gpu and not alone and can_be_stacked(model, train[:1].inputs):
        yield from train_stacked(model, plan, objective, runs, train, evaluate_on, keep_states)
        return
    of_thread = local()

    def train_one(number: int) -> tuple[int, list[Snapshot]]:
        if not hasattr(of_thread, "model"):
            of_thread.model = copy.deepcopy(model)
        return number, _train_one(of_thread.model, plan, objective, runs[number], train, evaluate_on, keep_states)

    yield from map(train_one, range(len(runs))) if on_gpu else as_completed(train_one, len(runs))


def _check_batches_of_one(model: nn.Module, runs: Sequence[Run], train: Split) -> None:
    """Raise UserError before anything is trained, since such a batch may be the last one of an epoch."""
    normalises = any(isinstance(module, _BatchNorm) for module in model.modules())
    if not normalises or all(len(batch) > 1 for run in runs if run.seed is not None for batch in run.batches):
        return
    try:
        with torch.no_grad():
            call(copy.deepcopy(model).train(), train[:1].inputs)
    except ValueError as error:
        raise UserError(
            "the last batch of an epoch is one example, whose pictures are too small for this network's batch normalisation; "
            "choose another --num_per_class, another batch size by --variant, or a model without it, such as mlp"
        ) from error


def _train_one(
    model: nn.Module,
    plan: TrainingPlan,
    objective: Objective,
    run: Run,
    train: Split,
    evaluate_on: Split | None,
    keep_states: bool,
) -> list[Snapshot]:
    optimizer = make_optimizer(model, plan)
    write_state(run.start, model, optimizer)
    found = []
    for step, batch in enumerate(run.batches, start=1):
        noise = None
        if run.seed is not None:
            noise = StepNoise(run.seed, step, plan.random_crop, plan.mixed_precision)
            optimizer.param_groups[0]["lr"] = plan.rate(step, len(run.batches))
        training_step(model, optimizer, objective, train, batch, run.weights, noise)
        if step in run.snapshots:
            state = read_state(model, optimizer) if keep_states else None
            evaluation = evaluate(model, objective, evaluate_on) if evaluate_on is not None else None
            found.append(Snapshot(step, state, evaluation))
    return found
