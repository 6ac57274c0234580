"""A training step by step, with what its derivative needs of each step, from any of its states on."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tda.data.splits import Split
from tda.gradients.objectives import Objective
from tda.models.model_state import ModelState, trained_parameters, write_state
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError
from tda.training.runs import Run
from tda.training.step_derivatives import StepDerivative, Values
from tda.training.step_noise import StepNoise
from tda.training.training_step import make_optimizer, training_step


@dataclass(frozen=True)
class TakenStep:
    """A step that a training took.

    number: from 1; batch (b,): training positions; before: the parameters before it; after: what the optimizer remembers after
    it, by quantity and parameter; gradient: the batch's, empty where the derivative needs none, None where clipping changed it;
    rate: its learning rate; noise: what it drew.
    """

    number: int
    batch: Tensor
    before: Values
    after: dict[str, Values]
    gradient: Values | None
    rate: float
    noise: StepNoise | None

    def derivative(self, plan: TrainingPlan, gradient: Values) -> StepDerivative:
        """The step's derivative, given the batch's gradient before it."""
        return StepDerivative(plan, gradient, self.before, self.after, self.number, self.rate)

    def kept(self) -> "TakenStep":
        """The same with copies of what the next step overwrites."""
        copied = {quantity: {name: each.clone() for name, each in values.items()} for quantity, values in self.after.items()}
        return replace(self, after=copied)

    def size_in_bytes(self) -> int:
        """Memory of its tensors."""
        tensors = [
            *self.before.values(),
            *(self.gradient or {}).values(),
            *(each for values in self.after.values() for each in values.values()),
        ]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass(frozen=True)
class Training:
    """One run with what it takes to do it, again and again; `model` is its own to change, on the device of `train`."""

    model: nn.Module
    plan: TrainingPlan
    objective: Objective
    run: Run
    train: Split

    @functools.cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the model's trained parameters."""
        return make_optimizer(self.model, self.plan)

    @property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        return len(self.run.batches)

    def steps(self, start: ModelState | None = None, taken: int = 0, until: int | None = None) -> Iterator[TakenStep]:
        """Train on from the state after `taken` steps, by default from the start, and yield every step once it is taken.

        They are the steps of many_models.train_many on one processor, to the bit. The tensors of `after` are the optimizer's
        own and change with the next step. Raises UserError for a trained parameter that a batch does not reach, which the
        optimizer passes over.
        """
        optimizer, run, plan = self.optimizer, self.run, self.plan
        write_state(start or run.start, self.model, optimizer)
        parameters = trained_parameters(self.model)
        for number in range(taken + 1, (self.num_steps if until is None else until) + 1):
            noise, rate = None, plan.learning_rate
            if run.seed is not None:
                noise = StepNoise(run.seed, number, plan.random_crop, plan.mixed_precision)
                rate = optimizer.param_groups[0]["lr"] = plan.rate(number, self.num_steps)
            before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
            batch = run.batches[number - 1]
            training_step(self.model, optimizer, self.objective, self.train, batch, run.weights, noise)
            _check_reached(parameters, number)
            yield TakenStep(number, batch, before, self._remembered(parameters), self._gradient(parameters), rate, noise)

    def _remembered(self, parameters: dict[str, nn.Parameter]) -> dict[str, Values]:
        # A step of SGD is linear in what it remembers, so that its derivative need not know it.
        quantities = () if self.plan.momentum is not None else ("exp_avg", "exp_avg_sq")
        state = self.optimizer.state
        return {quantity: {name: state[each][quantity] for name, each in parameters.items()} for quantity in quantities}

    def _gradient(self, parameters: dict[str, nn.Parameter]) -> Values | None:
        # The very numbers that Adam saw: others that round differently are other directions where a gradient is all rounding.
        if self.plan.gradient_clipping is not None:
            return None
        return {} if self.plan.momentum is not None else {name: each.grad for name, each in parameters.items()}


def _check_reached(parameters: dict[str, nn.Parameter], number: int) -> None:
    missed = [name for name, parameter in parameters.items() if parameter.grad is None]
    if missed:
        raise UserError(
            f"step {number} of the training does not reach the trained parameter {missed[0]}; the derivative through a "
            "training needs every trained parameter in every batch"
        )
