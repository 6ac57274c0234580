"""Many models at once on a GPU: parameters stacked along a first axis, one kernel for all, one captured graph a step.

Small models are bound by kernel launches there: a stack of hundreds costs about what one does. The same code runs on a CPU,
without graphs, where the tests compare it with training one by one.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tda.data.splits import Split
from tda.gradients.objectives import Objective
from tda.gradients.recorded_pass import floating_tensors
from tda.models.model_state import ModelState, trained_parameters
from tda.models.seeded_dropout import SeededDropout
from tda.models.training_plan import TrainingPlan
from tda.system.inputs import Inputs, call, chosen, mapped
from tda.training.runs import Evaluation, Run, Snapshot

# Stacked activations of this many bytes at most, forward and backward.
MEMORY_BUDGET = 8 * 2**30
_EVALUATION_BATCH = 128
_WARM_UP_STEPS = 3


def can_be_stacked(model: nn.Module, inputs: Inputs | None = None) -> bool:
    """Whether training draws no random numbers and changes no buffer, so that stacked models are independent.

    inputs: of an example (1, ...), on the model's device, on which the forward pass is tried: one that branches on values, as
    encoders do that look whether a mask is full, cannot be computed for several models at once.
    """
    drawing = (nn.modules.dropout._DropoutNd, SeededDropout)
    draws = any(isinstance(module, drawing) and module.p > 0 for module in model.modules())
    if draws or any(buffer.is_floating_point() for buffer in model.buffers()):
        return False
    return inputs is None or _followed(model, inputs)


def _followed(model: nn.Module, inputs: Inputs) -> bool:
    """Whether vmap follows the forward pass of a stack of one model, which has inputs of its own as in training."""
    stack = {name: parameter.detach()[None] for name, parameter in trained_parameters(model).items()}
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            vmap(lambda parameters, own: call(model, own, parameters))(stack, mapped(inputs, lambda part: part[None]))
    except RuntimeError as error:
        if "data-dependent" not in str(error):
            raise
        return False
    return True


def train_stacked(
    model: nn.Module,
    plan: TrainingPlan,
    objective: Objective,
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
            numbers_of_stack = numbers[start : start + size]
            stack = _Stack(model, plan, objective, [runs[number] for number in numbers_of_stack], train)
            snapshots: list[list[Snapshot]] = [[] for _ in numbers_of_stack]
            for step in range(1, len(runs[numbers_of_stack[0]].batches) + 1):
                stack.step()
                if step in runs[numbers_of_stack[0]].snapshots:
                    for found, snapshot in zip(snapshots, stack.snapshots(step, evaluate_on, keep_states), strict=True):
                        found.append(snapshot)
            yield from zip(numbers_of_stack, snapshots, strict=True)


def _models_at_once(model: nn.Module, plan: TrainingPlan, train: Split) -> int:
    """How many models' activations of one batch fit the budget, by counting those of one example."""
    counted = 0

    def count(module: nn.Module, arguments: tuple, output: object) -> None:
        nonlocal counted
        counted += sum(tensor.numel() * tensor.element_size() for tensor in floating_tensors(output))

    hooks = [module.register_forward_hook(count) for module in model.modules() if not list(module.children())]
    with torch.no_grad():
        call(model, chosen(train.inputs, slice(0, 1)))
    for hook in hooks:
        hook.remove()
    batch = max(_EVALUATION_BATCH, plan.batch_size)
    # Unfolded patches and gradients of activations come on top of the activations themselves.
    return max(1, MEMORY_BUDGET // (4 * counted * batch))


class _Stack:
    """Models under training: parameters (M, *shape), the optimizer over them, and the captured step."""

    def __init__(self, model: nn.Module, plan: TrainingPlan, objective: Objective, runs: Sequence[Run], train: Split) -> None:
        self.model, self.objective, self.train = model, objective, train
        self.names = list(trained_parameters(model))
        device = train.device
        self.parameters = {
            name: torch.stack([run.start.parameters[name] for run in runs]).to(device).requires_grad_() for name in self.names
        }
        on_gpu = device.type == "cuda"
        self.optimizer = plan.optimizer(self.parameters.values(), capturable=on_gpu, stacked=True)
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
        inputs, labels = chosen(self.train.inputs, self.current_index), self.train.labels[self.current_index]
        logits = self._logits(inputs, inputs_are_stacked=True)
        losses = self.objective.loss(logits.flatten(0, 1), labels.flatten(0, 1)).view(labels.shape[:2])
        # A model's parameters see its own losses alone, so that one sum gives every model its own gradient.
        total = (losses * self.current_weight).sum()
        gradients = torch.autograd.grad(total, list(self.parameters.values()), allow_unused=True)
        for parameter, gradient in zip(self.parameters.values(), gradients, strict=True):
            # The fused step runs over memory, so that gradients must lie in the parameters' order.
            parameter.grad = None if gradient is None else gradient.contiguous()
        self.optimizer.step()

    def _logits(self, inputs: Inputs, inputs_are_stacked: bool) -> Tensor:
        """Logits (M, b, ...) of inputs (M, b, ...), or (b, ...) shared by all."""

        def forward(parameters: dict[str, Tensor], batch: Inputs) -> Tensor:
            return call(self.model, batch, parameters)

        # Fused attention has no rule for vmap.
        with sdpa_kernel(SDPBackend.MATH):
            return vmap(forward, in_dims=(0, 0 if inputs_are_stacked else None))(self.parameters, inputs)

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
            for inputs, labels in split.batches(_EVALUATION_BATCH):
                logits = self._logits(inputs, inputs_are_stacked=False)
                count = len(logits)
                flat = (logits.flatten(0, 1), labels.expand(count, *labels.shape).flatten(0, 1))
                for found, function in ((losses, self.objective.loss), (margins, self.objective.margin)):
                    found.append(function(*flat).unflatten(0, (count, -1)))
                predictions.append(self.objective.predictions(flat[0]).unflatten(0, (count, -1)))
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
    # Retrainings share the very list of batches, of which a long training has thousands.
    padded: dict[int, tuple[Tensor, Tensor]] = {}
    for number, run in enumerate(runs):
        if id(run.batches) not in padded:
            padded[id(run.batches)] = _padded(run.batches, largest)
        index[:, number], weight[:, number] = padded[id(run.batches)]
        if run.weights is not None:
            weight[:, number] *= run.weights.cpu()[index[:, number]]
    return index.to(device), weight.to(device)


def _padded(batches: Sequence[Tensor], largest: int) -> tuple[Tensor, Tensor]:
    """Indices (steps, largest), and 1 / batch size, or 0 where an index stands for no example."""
    sizes = torch.tensor([len(batch) for batch in batches])
    index = torch.zeros(len(batches), largest, dtype=torch.int64)
    real = torch.arange(largest) < sizes[:, None]
    index[real] = torch.cat(list(batches))
    return index, real / sizes[:, None]
