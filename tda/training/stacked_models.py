"""Many models at once on a GPU: parameters stacked along a first axis, one kernel for all, one captured graph a step.

Small models are bound by kernel launches there: a stack of hundreds costs about what one does. The same code runs on a CPU,
without graphs, where the tests compare it with training one by one.
"""

import contextlib
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
from tda.system.inputs import Inputs, call, chosen, device_of, mapped
from tda.training.runs import Evaluation, Run, Snapshot
from tda.training.stacked_convolutions import ConvolutionsAsProducts
from tda.training.stacked_noise import StackedNoise, called_shapes, draw_the_same
from tda.training.step_noise import drawing_from

# Shares of a GPU's memory, and of what is free of it, for stacked activations, forward and backward; where there is no GPU, as
# in tests, so many bytes.
_MEMORY_SHARE, _FREE_SHARE, _MEMORY_OF_TESTS = 0.25, 0.5, 8 * 2**30
_EVALUATION_BATCH = 128
_WARM_UP_STEPS = 3


def can_be_stacked(model: nn.Module, inputs: Inputs) -> bool:
    """Whether training draws nothing that cannot be handed in and changes no buffer, so that stacked models are independent.

    inputs: of an example (1, ...), on the model's device, on which the forward pass is tried: one that branches on values, as
    encoders do that look whether a mask is full, cannot be computed for several models at once, and neither can recurrent
    layers or experts that take a part of the examples each. Nor can dropout of texts on a CPU, where masks are as long as a
    batch's longest text.
    """
    modules = list(model.modules())
    if any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 for module in modules):
        return False
    drops = any(isinstance(module, SeededDropout) and module.p > 0 for module in modules)
    if drops and not isinstance(inputs, Tensor) and device_of(inputs).type == "cpu":
        return False
    return not any(buffer.is_floating_point() for buffer in model.buffers()) and _followed(model, inputs)


def _followed(model: nn.Module, inputs: Inputs) -> bool:
    """Whether vmap follows the forward pass of a stack of one model, which has inputs of its own as in training."""
    stack = {name: parameter.detach()[None] for name, parameter in trained_parameters(model).items()}
    try:
        with torch.no_grad(), _for_stacks(), drawing_from(model, lambda shape, device: torch.ones(shape, device=device)):
            vmap(lambda parameters, own: call(model, own, parameters))(stack, mapped(inputs, lambda part: part[None]))
    except RuntimeError:
        # Whatever vmap has no rule for, torch says so in a way of its own; a model that is broken fails alone, too.
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
        key = (len(run.batches), tuple(run.snapshots), steps_before, run.seed is None)
        alike.setdefault(key, []).append(number)
    for numbers in alike.values():
        size, stack = _models_at_once(model, plan, train), None
        for start in range(0, len(numbers), size):
            numbers_of_stack = numbers[start : start + size]
            chosen_runs = [runs[number] for number in numbers_of_stack]
            if stack is None or not stack.takes(chosen_runs):
                stack = _Stack(model, plan, objective, chosen_runs, train)
            stack.load(chosen_runs)
            snapshots: list[list[Snapshot]] = [[] for _ in numbers_of_stack]
            for step in range(1, len(chosen_runs[0].batches) + 1):
                stack.step()
                if step in chosen_runs[0].snapshots:
                    for found, snapshot in zip(snapshots, stack.snapshots(step, evaluate_on, keep_states), strict=True):
                        found.append(snapshot)
            yield from zip(numbers_of_stack, snapshots, strict=True)


@contextlib.contextmanager
def _for_stacks() -> Iterator[None]:
    """Forward passes that vmap follows with fast kernels: fused attention has no rule for it, convolutions a slow one."""
    with sdpa_kernel(SDPBackend.MATH), ConvolutionsAsProducts():
        yield


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
    # Unfolded patches and gradients of activations come on top of the activations themselves.
    return max(1, memory_budget(train.device) // (4 * counted * plan.batch_size))


def memory_budget(device: torch.device) -> int:
    """Bytes that stacked activations may take, forward and backward."""
    if device.type != "cuda":
        return _MEMORY_OF_TESTS
    # Other programs may be on the same GPU.
    free, total = torch.cuda.mem_get_info(device)
    return int(min(_MEMORY_SHARE * total, _FREE_SHARE * free))


class _Stack:
    """Models under training: parameters (M, *shape), the optimizer over them, and the captured step."""

    def __init__(self, model: nn.Module, plan: TrainingPlan, objective: Objective, runs: Sequence[Run], train: Split) -> None:
        self.model, self.plan, self.objective, self.train = model, plan, objective, train
        self.names = list(trained_parameters(model))
        device = train.device
        self.parameters = {
            name: torch.stack([run.start.parameters[name] for run in runs]).to(device).requires_grad_() for name in self.names
        }
        # Runs of no seed are steps that a score takes, at the full rate and without noise; stacks hold one kind alone.
        self.whole_trainings = runs[0].seed is not None
        on_gpu, changes = device.type == "cuda", self.whole_trainings and plan.rate_changes
        # Torch's fused steps read a float32 of a GPU's memory, and any number of the host's.
        precision = torch.float32 if on_gpu else torch.float64
        self.rate = torch.tensor(plan.learning_rate, device=device, dtype=precision) if changes else None
        self.optimizer = plan.optimizer(self.parameters.values(), capturable=on_gpu, stacked=True, rate=self.rate)
        largest = _largest_batch(runs)
        self.current_index = torch.zeros(len(runs), largest, dtype=torch.int64, device=device)
        self.current_weight = torch.zeros(len(runs), largest, device=device)
        self.noise = StackedNoise(self._dropout_shapes(), runs, device)
        self.graph: torch.cuda.CUDAGraph | None = None
        if on_gpu:
            self._capture()

    def takes(self, runs: Sequence[Run]) -> bool:
        """Whether runs of equal length fit into the memory that the step was captured with."""
        return (len(runs), _largest_batch(runs)) == self.current_index.shape and draw_the_same(runs) == self.noise.shared

    def _dropout_shapes(self) -> list[torch.Size]:
        if not self.whole_trainings:
            return []
        inputs = chosen(self.train.inputs, self.current_index)
        self.model.train()
        with _for_stacks():
            return called_shapes(
                self.model, lambda: vmap(lambda parameters, own: call(self.model, own, parameters))(self.parameters, inputs)
            )

    def _capture(self) -> None:
        """Warm up on a side stream, then record one step; both leave parameters changed, so that `load` comes after.

        A step that waits for the GPU in its middle cannot be recorded; it is then computed anew each time. All streams are of
        the models' GPU: on the first one, torch's default, nothing would be recorded, and a replay would be no step.
        """
        device = self.train.device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_STEPS):
                self._compute()
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with contextlib.suppress(RuntimeError):
            with torch.cuda.graph(graph, stream=side):
                self._compute()
            self.graph = graph

    def load(self, runs: Sequence[Run]) -> None:
        """Take up the runs: every start is copied into the stack in place, as a captured graph requires."""
        self.runs, self.taken = runs, 0
        self.index, self.weight = _padded_batches(runs, self.train.device)
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
        if self.noise.numbers:
            self.noise.draw(self.runs, self.taken)
        if self.rate is not None:
            self.rate.fill_(self.plan.rate(self.taken, len(self.index)))
        if self.graph is None:
            self._compute()
        else:
            self.graph.replay()

    def _compute(self) -> None:
        self.model.train(self.whole_trainings)
        inputs, labels = chosen(self.train.inputs, self.current_index), self.train.labels[self.current_index]
        logits = self._logits(inputs, inputs_are_stacked=True, numbers=self.noise.numbers)
        losses = self.objective.loss(logits.flatten(0, 1), labels.flatten(0, 1)).view(labels.shape[:2])
        # A model's parameters see its own losses alone, so that one sum gives every model its own gradient.
        total = (losses * self.current_weight).sum()
        gradients = torch.autograd.grad(total, list(self.parameters.values()), allow_unused=True)
        for parameter, gradient in zip(self.parameters.values(), gradients, strict=True):
            # The fused step runs over memory, so that gradients must lie in the parameters' order.
            parameter.grad = None if gradient is None else gradient.contiguous()
        self.optimizer.step()

    def _logits(self, inputs: Inputs, inputs_are_stacked: bool, numbers: Sequence[Tensor] = ()) -> Tensor:
        """Logits (M, b, ...) of inputs (M, b, ...), or (b, ...) shared by all; numbers: what dropout is given, one a call."""

        def forward(parameters: dict[str, Tensor], batch: Inputs, numbers: list[Tensor]) -> Tensor:
            given = iter(numbers)
            with drawing_from(self.model, lambda shape, device: next(given)):
                return call(self.model, batch, parameters)

        axes = (0, 0 if inputs_are_stacked else None, None if self.noise.shared else 0)
        with _for_stacks():
            return vmap(forward, in_dims=axes)(self.parameters, inputs, list(numbers))

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
            # Nothing is kept for a backward pass, so that four times a training batch takes no more than training did.
            for inputs, labels in split.batches(min(_EVALUATION_BATCH, 4 * self.plan.batch_size)):
                logits = self._logits(inputs, inputs_are_stacked=False)
                count = len(logits)
                flat = (logits.flatten(0, 1), labels.expand(count, *labels.shape).flatten(0, 1))
                for found, function in ((losses, self.objective.loss), (margins, self.objective.margin)):
                    found.append(function(*flat).unflatten(0, (count, -1)))
                predicted = self.objective.predictions(flat[0]).masked_fill(flat[1] < 0, -1)
                predictions.append(predicted.unflatten(0, (count, -1)))
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


def _largest_batch(runs: Sequence[Run]) -> int:
    return max(len(batch) for run in runs for batch in run.batches)


def _padded_batches(runs: Sequence[Run], device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices and loss weights (steps, M, largest batch); a padded place has weight 0, a counted one 1 / batch size."""
    steps, largest = len(runs[0].batches), _largest_batch(runs)
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
