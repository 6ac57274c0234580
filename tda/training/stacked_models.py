"""Many models at once on a GPU: parameters stacked along a first axis, one kernel for all, one captured graph a step.

Small models are bound by kernel launches there: a stack of hundreds costs about what one does. The same code runs on a CPU,
without graphs, where the tests compare it with training one by one.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from tda.data.splits import Split
from tda.gradients.quantities import margin
from tda.models.model_state import ModelState, trained_parameters
from tda.models.training_plan import TrainingPlan
from tda.training.runs import Evaluation, Run, Snapshot
from tda.training.step_noise import SeededDropout

# Stacked activations of this many bytes at most, forward and backward.
MEMORY_BUDGET = 8 * 2**30
_EVALUATION_BATCH = 128
_WARM_UP_STEPS = 3


def can_be_stacked(model: nn.Module) -> bool:
    """Whether training draws no random numbers and changes no buffer, so that stacked models are independent."""
    drawing = (nn.modules.dropout._DropoutNd, SeededDropout)
    draws = any(isinstance(module, drawing) and module.p > 0 for module in model.modules())
    return not draws and next(model.buffers(), None) is None


def train_stacked(
    model: nn.Module,
    plan: TrainingPlan,
    runs: Sequence[Run],
    train: Split,
    evaluate_on: Split | None,
    keep_states: bool,
) -> Iterator[tuple[int, list[Snapshot]]]:
    """Like many_models.train_many, with runs of equal length trained in stacks."""
    alike: dict[tuple, list[int]] = {}
    for number, run in enumerate(runs):
        steps_before = next((float(step) for step in run.start.optimizer.get("step", {}).values()), 0.0)
        alike.setdefault((len(run.batches), tuple(run.snapshots), steps_before), []).append(number)
    for numbers in alike.values():
        size = _models_at_once(model, plan, train)
        for start in range(0, len(numbers), size):
            chosen = numbers[start : start + size]
            stack = _Stack(model, plan, [runs[number] for number in chosen], train)
            snapshots: list[list[Snapshot]] = [[] for _ in chosen]
            for step in range(1, len(runs[chosen[0]].batches) + 1):
                stack.step()
                if step in runs[chosen[0]].snapshots:
                    for found, snapshot in zip(snapshots, stack.snapshots(step, evaluate_on, keep_states), strict=True):
                        found.append(snapshot)
            yield from zip(chosen, snapshots, strict=True)


def _models_at_once(model: nn.Module, plan: TrainingPlan, train: Split) -> int:
    """How many models' activations of one batch fit the budget, by counting those of one example."""
    counted = 0

    def count(module: nn.Module, arguments: tuple, output: Tensor) -> None:
        nonlocal counted
        counted += output.numel() * output.element_size()

    hooks = [module.register_forward_hook(count) for module in model.modules() if not list(module.children())]
    with torch.no_grad():
        model(train.images[:1])
    for hook in hooks:
        hook.remove()
    batch = max(_EVALUATION_BATCH, plan.batch_size)
    # Unfolded patches and gradients of activations come on top of the activations themselves.
    return max(1, MEMORY_BUDGET // (4 * counted * batch))


class _Stack:
    """Models under training: parameters (M, *shape), the optimizer over them, and the captured step."""

    def __init__(self, model: nn.Module, plan: TrainingPlan, runs: Sequence[Run], train: Split) -> None:
        self.model, self.train = model, train
        self.names = list(trained_parameters(model))
        device = train.images.device
        self.parameters = {
            name: torch.stack([run.start.parameters[name] for run in runs]).to(device).requires_grad_() for name in self.names
        }
        on_gpu = device.type == "cuda"
        self.optimizer = plan.optimizer(self.parameters.values(), capturable=on_gpu)
        self.index, self.weight = _padded_batches(runs, device)
        self.taken = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.current_index, self.current_weight = self.index[0].clone(), self.weight[0].clone()
        if on_gpu:
            self._capture()
        self._start(runs)

    def _capture(self) -> None:
        """Warm up on a side stream, then record one step; both leave parameters changed, so that _start comes after."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_STEPS):
                self._compute()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self._compute()

    def _start(self, runs: Sequence[Run]) -> None:
        """Copy every run's start into the stack in place, as a captured graph requires."""
        remembered = runs[0].start.optimizer
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(torch.stack([run.start.parameters[name] for run in runs]))
                state = self.optimizer.state[parameter]
                for quantity in () if state else remembered:
                    zeros = torch.zeros(()) if quantity == "step" else torch.zeros_like(parameter)
                    state[quantity] = zeros.to(parameter.device)
                for quantity, tensor in state.items():
                    if not remembered:
                        tensor.zero_()
                    elif quantity == "step":
                        tensor.copy_(remembered[quantity][name])
                    else:
                        tensor.copy_(torch.stack([run.start.optimizer[quantity][name] for run in runs]))

    def step(self) -> None:
        """One optimizer step of every model on its own batch."""
        self.current_index.copy_(self.index[self.taken])
        self.current_weight.copy_(self.weight[self.taken])
        self.taken += 1
        if self.graph is None:
            self._compute()
        else:
            self.graph.replay()

    def _compute(self) -> None:
        self.model.train()
        images, labels = self.train.images[self.current_index], self.train.labels[self.current_index]
        logits = self._logits(images, images_are_stacked=True)
        losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
        # A model's parameters see its own losses alone, so that one sum gives every model its own gradient.
        gradients = torch.autograd.grad((losses * self.current_weight).sum(), list(self.parameters.values()))
        for parameter, gradient in zip(self.parameters.values(), gradients, strict=True):
            # The fused step runs over memory, so that gradients must lie in the parameters' order.
            parameter.grad = gradient.contiguous()
        self.optimizer.step()

    def _logits(self, images: Tensor, images_are_stacked: bool) -> Tensor:
        """Logits (M, b, C) of images (M, b, c, h, w), or (b, c, h, w) shared by all."""

        def forward(parameters: dict[str, Tensor], batch: Tensor) -> Tensor:
            return functional_call(self.model, parameters, (batch,))

        return vmap(forward, in_dims=(0, 0 if images_are_stacked else None))(self.parameters, images)

    def snapshots(self, step: int, evaluate_on: Split | None, keep_states: bool) -> list[Snapshot]:
        """What every model looks like now."""
        count = len(self.current_index)
        evaluations = self._evaluations(evaluate_on) if evaluate_on is not None else [None] * count
        states = [self._state(number) if keep_states else None for number in range(count)]
        return [Snapshot(step, state, evaluation) for state, evaluation in zip(states, evaluations, strict=True)]

    def _evaluations(self, split: Split) -> list[Evaluation]:
        self.model.eval()
        losses, margins, predictions = [], [], []
        with torch.no_grad():
            for images, labels in zip(
                split.images.split(_EVALUATION_BATCH), split.labels.split(_EVALUATION_BATCH), strict=True
            ):
                logits = self._logits(images, images_are_stacked=False)
                repeated = labels.expand(len(logits), -1)
                flat = (logits.flatten(0, 1), repeated.flatten())
                losses.append(functional.cross_entropy(*flat, reduction="none").view_as(repeated))
                margins.append(margin(*flat).view_as(repeated))
                predictions.append(logits.argmax(2))
        columns = (torch.cat(found, dim=1).cpu() for found in (losses, margins, predictions))
        return [Evaluation(*row) for row in zip(*columns, strict=True)]

    def _state(self, number: int) -> ModelState:
        optimizer: dict[str, dict[str, Tensor]] = {}
        for name, parameter in self.parameters.items():
            for quantity, tensor in self.optimizer.state[parameter].items():
                own = tensor if quantity == "step" else tensor[number]
                optimizer.setdefault(quantity, {})[name] = own.detach().to("cpu", copy=True).contiguous()
        own = {name: parameter[number].detach().to("cpu", copy=True) for name, parameter in self.parameters.items()}
        return ModelState(own, {}, optimizer)


def _padded_batches(runs: Sequence[Run], device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices and loss weights (steps, M, largest batch); a padded place has weight 0, a counted one 1 / batch size."""
    steps, largest = len(runs[0].batches), max(len(batch) for run in runs for batch in run.batches)
    index = torch.zeros(steps, len(runs), largest, dtype=torch.int64)
    weight = torch.zeros(steps, len(runs), largest)
    for number, run in enumerate(runs):
        counted = None if run.weights is None else run.weights.cpu()
        for step, batch in enumerate(run.batches):
            index[step, number, : len(batch)] = batch
            weight[step, number, : len(batch)] = (1.0 if counted is None else counted[batch]) / len(batch)
    return index.to(device), weight.to(device)
