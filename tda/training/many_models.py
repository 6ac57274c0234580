"""Train and evaluate many models of one architecture that differ in their start, batches and counted examples.

The ensemble, leave-one-out, added training steps and subset retrainings all go through `train_many`. On a GPU the
models are stacked (stacked_models.py); on a CPU every model is trained by one thread, several beside each other, which
makes a result independent of how many models, threads or processes work at once.
"""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from threading import local

import torch
from torch import Tensor, nn
from torch.nn import functional

from tda.data.splits import Split
from tda.gradients.quantities import margin
from tda.models.model_state import read_state, write_state
from tda.models.training_plan import TrainingPlan
from tda.system.devices import image_format
from tda.system.workers import as_completed
from tda.training.fused_evaluation import forward_of
from tda.training.runs import Evaluation, Run, Snapshot
from tda.training.stacked_models import can_be_stacked, train_stacked
from tda.training.step_noise import StepNoise

EVALUATION_BATCH = 64


def train_many(
    model: nn.Module,
    plan: TrainingPlan,
    runs: Sequence[Run],
    train: Split,
    evaluate_on: Split | None = None,
    keep_states: bool = False,
) -> Iterator[tuple[int, list[Snapshot]]]:
    """Train every run and yield (its number, its snapshots) as it ends, in no fixed order.

    `model` gives the architecture; it is copied, not changed. The device is that of `train`.
    """
    if train.images.device.type == "cuda" and plan.same_step_throughout and can_be_stacked(model):
        yield from train_stacked(model, plan, runs, train, evaluate_on, keep_states)
        return
    own = local()

    def train_one(number: int) -> tuple[int, list[Snapshot]]:
        if not hasattr(own, "model"):
            own.model = copy.deepcopy(model)
        return number, _train_one(own.model, plan, runs[number], train, evaluate_on, keep_states)

    on_gpu = train.images.device.type == "cuda"
    yield from map(train_one, range(len(runs))) if on_gpu else as_completed(train_one, len(runs))


def _train_one(
    model: nn.Module, plan: TrainingPlan, run: Run, train: Split, evaluate_on: Split | None, keep_states: bool
) -> list[Snapshot]:
    optimizer = make_optimizer(model, plan)
    write_state(run.start, model, optimizer)
    found = []
    for step, batch in enumerate(run.batches, start=1):
        noise = None
        if run.seed is not None:
            noise = StepNoise(run.seed, step, plan.random_crop, plan.mixed_precision)
            optimizer.param_groups[0]["lr"] = plan.rate(step, len(run.batches))
        training_step(model, optimizer, train, batch, run.weights, noise)
        if step in run.snapshots:
            state = read_state(model, optimizer) if keep_states else None
            evaluation = evaluate(model, evaluate_on) if evaluate_on is not None else None
            found.append(Snapshot(step, state, evaluation))
    return found


def make_optimizer(model: nn.Module, plan: TrainingPlan) -> torch.optim.Optimizer:
    """The plan's optimizer over the model's trainable parameters."""
    return plan.optimizer([parameter for parameter in model.parameters() if parameter.requires_grad])


def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Split,
    batch: Tensor,
    weights: Tensor | None,
    noise: StepNoise | None = None,
) -> None:
    """One optimizer step on the weighted sum of the batch's losses divided by the batch's size.

    Without noise nothing is drawn: dropout is off.
    """
    model.train(noise is not None)
    with contextlib.nullcontext() if noise is None else noise.applied_to(model, train.images.device):
        images = train.images[batch]
        logits = model(images if noise is None else noise.cropped(images)).to(images.dtype)
    losses = functional.cross_entropy(logits, train.labels[batch], reduction="none")
    if weights is not None:
        losses = losses * weights[batch]
    optimizer.zero_grad()
    (losses.sum() / len(batch)).backward()
    optimizer.step()


def evaluate(model: nn.Module, split: Split) -> Evaluation:
    """Losses, margins and predictions of one model on a split, dropout off."""
    model.eval()
    forward = forward_of(model, split.images)
    losses, margins, predictions = [], [], []
    with torch.no_grad():
        for images, labels in zip(split.images.split(EVALUATION_BATCH), split.labels.split(EVALUATION_BATCH), strict=True):
            logits = forward(images)
            losses.append(functional.cross_entropy(logits, labels, reduction="none"))
            margins.append(margin(logits, labels))
            predictions.append(logits.argmax(1))
    return Evaluation(torch.cat(losses).cpu(), torch.cat(margins).cpu(), torch.cat(predictions).cpu())


def on_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to a device, in the memory format in which small convolutions run fastest there."""
    return model.to(device=device, memory_format=image_format(device))


def resident_split(split: Split, device: torch.device) -> Split:
    """The split on a device, its images in the same memory format as the models."""
    return split.to(device, image_format(device))
