"""Differentiation through a training by bergson's MAGIC: its Trainer, on the model, batches and optimizer of a training here.

MAGIC's own data stream holds token sequences; `Stream` gives its Trainer images and labels by the same protocol.
"""

import copy
from pathlib import Path

import torch
import torchopt
from bergson.magic import BackwardState, Trainer
from torch import Tensor, nn
from torchopt.pytree import tree_iter

from tda.models.model_state import write_state
from tda.training.taken_steps import Training


class WithLoss(nn.Module):
    """The model as the Trainer calls it: keywords in, the weighted mean of the batch's losses out."""

    def __init__(self, model: nn.Module, objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, images: Tensor, labels_of_images: Tensor, example_weight: Tensor, shift_loss_mask: Tensor) -> Tensor:
        """The loss that a training step takes."""
        return (self.objective.loss(self.model(images), labels_of_images) * example_weight).sum() / len(images)


class Stream:
    """A training's batches with the weights that they are differentiated by."""

    def __init__(self, training: Training) -> None:
        self.training, self.device = training, training.train.device
        self.weights = nn.Parameter(torch.ones(len(training.train), device=self.device))

    requires_grad = property(lambda self: self.weights.requires_grad, lambda self, value: self.weights.requires_grad_(value))

    def __len__(self) -> int:
        return len(self.training.run.batches)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        batch, train = self.training.run.batches[number], self.training.train
        return {
            "images": train.inputs[batch],
            "labels_of_images": train.labels[batch],
            "example_weight": self.weights[batch],
            "shift_loss_mask": torch.ones(len(batch), device=self.device),
        }


def derivatives(training: Training, test, folder: Path) -> Tensor:
    """d loss(test) / d weight (n_train,) of one test example; folder: for the states, which MAGIC keeps on disk."""
    plan = training.plan
    write_state(training.run.start, training.model, training.optimizer)
    if plan.momentum is not None:
        optimizer = torchopt.sgd(plan.learning_rate, momentum=plan.momentum, weight_decay=plan.weight_decay)
    else:
        optimizer = torchopt.adam(
            plan.learning_rate, eps=0.0, eps_root=plan.adam_epsilon_inside, weight_decay=plan.weight_decay
        )
    model = WithLoss(copy.deepcopy(training.model), training.objective).train()
    trainer, state = Trainer.initialize(model, optimizer)
    stream = Stream(training)
    state = trainer.train(state, stream, save_dir=str(folder))
    state.detach_()
    state.requires_grad = True
    everything = {
        "images": test.inputs,
        "labels_of_images": test.labels,
        "example_weight": torch.ones(1, device=stream.device),
        "shift_loss_mask": torch.ones(1, device=stream.device),
    }
    with state.activate(model) as parameters:
        slopes = torch.autograd.grad(model(**everything), list(parameters.values()))
    zeros = [torch.zeros_like(each) for each in tree_iter(state.opt_state) if _is_differentiable(each)]
    adjoints = BackwardState(dict(zip(parameters, slopes, strict=True)), zeros, torch.zeros_like(stream.weights))
    return trainer.backward(str(folder), stream, adjoints, state).weight_grads.detach()


def _is_differentiable(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()
