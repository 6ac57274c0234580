"""One optimizer step on a batch."""

import contextlib

import torch
from torch import Tensor, nn

from tda.data.splits import Split
from tda.gradients.objectives import Objective
from tda.models.training_plan import TrainingPlan
from tda.system.inputs import call, chosen
from tda.system.padding import without_padding
from tda.training.step_noise import StepNoise


def make_optimizer(model: nn.Module, plan: TrainingPlan) -> torch.optim.Optimizer:
    """The plan's optimizer over the model's trainable parameters."""
    return plan.optimizer([parameter for parameter in model.parameters() if parameter.requires_grad])


def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    train: Split,
    batch: Tensor,
    weights: Tensor | None,
    noise: StepNoise | None = None,
) -> None:
    """One optimizer step on the weighted sum of the batch's losses divided by the batch's size.

    Without noise nothing is drawn: dropout is off. Where the objective compares the examples of a batch, those of weight 0 are
    not compared with either, unless all are of weight 0.
    """
    model.train(noise is not None)
    size = len(batch)
    if objective.compares_examples and weights is not None:
        counted = batch[(weights[batch] != 0).cpu()]
        batch = counted if len(counted) else batch
    with contextlib.nullcontext() if noise is None else noise.applied_to(model, train.device):
        inputs, labels = without_padding(chosen(train.inputs, batch), train.labels[batch])
        logits = call(model, inputs if noise is None else noise.cropped(inputs))
    # Mixed precision computes logits in half the bits that a loss needs.
    losses = objective.loss(logits.float() if logits.dtype.itemsize < 4 else logits, labels)
    if weights is not None:
        losses = losses * weights[batch]
    optimizer.zero_grad()
    (losses.sum() / size).backward()
    optimizer.step()
