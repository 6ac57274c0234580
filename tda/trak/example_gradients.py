"""Projected gradients of a task's output for the examples of a batch.

A task that is a function of logits goes layer by layer, where no layer's gradient need be formed. Any other goes through
torch.func: all examples at once where vmap can do that and is right, else one at a time.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tda.gradients.evaluation_mode import evaluation
from tda.gradients.gradient_kernel import BLOCK_SIZE
from tda.gradients.gradient_plan import GradientPlan, plan_gradients
from tda.gradients.projections import Projection
from tda.gradients.selected_parameters import refuse_batch_statistics, refuse_opaque, selected_shapes
from tda.system.errors import UserError
from tda.system.inputs import Inputs, chosen, parts_of
from tda.trak.modelout_functions import AbstractModelOutput, LogitsModelOutput

_MEMORY_BUDGET = 2**29
"""Bytes of gradients that are held at once."""

_TOLERANCE = 1e-3
"""Largest relative difference between vmap and one example at a time with which vmap passes for right in float32."""


class LayerGradients:
    """Gradients of a LogitsModelOutput, layer by layer."""

    def __init__(self, model: nn.Module, task: LogitsModelOutput, parameters: Collection[str] | None) -> None:
        """parameters: names, by default those that require gradients."""
        self.model, self.task, self.parameters = model, task, parameters
        self._plan: GradientPlan | None = None
        self._block_sizes: dict[tuple[torch.Size, ...], int] = {}

    def projected(self, batch: Sequence[Tensor], projection: Projection) -> Tensor:
        """Projected gradients (n, dimension) of the batch's examples."""
        inputs, labels = self.task.split(batch)
        if self._plan is None:
            _refuse_without_gradient(self.model, self.task, batch)
            self._plan = plan_gradients(self.model, inputs, self.parameters)
        size = self._block_size(chosen(inputs, slice(0, 1)), labels[:1])
        blocks = self._plan.streamed(inputs, labels, self.task.quantity, size)
        return torch.cat([projection.project(rows) for rows in blocks])

    def _block_size(self, inputs: Inputs, labels: Tensor) -> int:
        # It depends on the inputs' shapes alone, so that a resumed run computes in the same blocks.
        shapes = tuple(part.shape for part in parts_of(inputs))
        if shapes not in self._block_sizes:
            example_bytes = self._plan.block_rows(inputs, labels, self.task.quantity).size_in_bytes()
            self._block_sizes[shapes] = max(1, min(BLOCK_SIZE, _MEMORY_BUDGET // (2 * example_bytes + 1)))
        return self._block_sizes[shapes]


@dataclass
class FunctionalGradients:
    """Gradients of any task's output, by torch.func.

    vectorized: whether vmap does it, None until the first examples show.
    """

    model: nn.Module
    task: AbstractModelOutput
    parameters: Collection[str] | None
    vectorized: bool | None = field(default=None, init=False)

    def projected(self, batch: Sequence[Tensor], projection: Projection) -> Tensor:
        """Projected gradients (n, dimension) of the batch's examples.

        Raises UserError if a module mixes the examples of a batch or the output has no gradient.
        """
        if self.vectorized is None:
            _refuse_without_gradient(self.model, self.task, batch)
        shapes = selected_shapes(self.model, self.parameters)
        gradient = self._gradient(list(shapes))
        with evaluation(self.model, differentiable=()), sdpa_kernel(SDPBackend.MATH):
            if self.vectorized is None:
                self.vectorized = _vectorization_is_right(gradient, [tensor[:2] for tensor in batch])
            compute = _vectorized if self.vectorized else _looped
            size = max(1, _MEMORY_BUDGET // (8 * sum(shape.numel() for shape in shapes.values())))
            blocks = zip(*(tensor.split(min(size, BLOCK_SIZE)) for tensor in batch), strict=True)
            return torch.cat([projection.project_gradients(compute(gradient, block)) for block in blocks])

    def _gradient(self, names: list[str]) -> Callable[..., dict[str, Tensor]]:
        weights = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        selected = {name: weights.pop(name) for name in names}
        buffers = dict(self.model.named_buffers())

        def output(selected: dict[str, Tensor], *example: Tensor) -> Tensor:
            return self.task.get_output(self.model, weights | selected, buffers, *example).sum()

        # An output may overwrite what it is given.
        return lambda *example: grad(output)(selected, *(tensor.clone() for tensor in example))


def _refuse_without_gradient(model: nn.Module, task: AbstractModelOutput, batch: Sequence[Tensor]) -> None:
    """Raise UserError where an example has no gradient of its own, or none with respect to any parameter.

    An example that reaches none of the chosen parameters, but others, has gradient zero.
    """
    refuse_opaque(model)
    refuse_batch_statistics(model)
    parameters = dict(model.named_parameters())
    floating = [name for name, parameter in parameters.items() if parameter.is_floating_point()]
    with evaluation(model, differentiable=floating):
        output = task.get_output(model, parameters, dict(model.named_buffers()), *(tensor[0].clone() for tensor in batch))
    if not output.requires_grad:
        raise UserError(
            "the model's output has no gradient with respect to any parameter; compute it without torch.no_grad() and "
            "detach(), and from the weights that get_output is given"
        )


def _vectorized(gradient: Callable[..., dict[str, Tensor]], batch: Sequence[Tensor]) -> dict[str, Tensor]:
    return vmap(gradient, randomness="different")(*batch)


def _looped(gradient: Callable[..., dict[str, Tensor]], batch: Sequence[Tensor]) -> dict[str, Tensor]:
    try:
        each = [gradient(*example) for example in zip(*batch, strict=True)]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"the model's output cannot be differentiated for one example ({reason}); get_output must compute a number from "
            "the weights it is given, by operations that torch.func.grad can follow"
        ) from error
    return {name: torch.stack([found[name] for found in each]) for name in each[0]}


def _vectorization_is_right(gradient: Callable[..., dict[str, Tensor]], probe: Sequence[Tensor]) -> bool:
    expected = _looped(gradient, probe)
    try:
        found = _vectorized(gradient, probe)
    except (RuntimeError, ValueError, TypeError):
        return False
    difference = sum((found[name] - expected[name]).square().sum() for name in expected)
    return bool(difference <= _TOLERANCE**2 * sum(part.square().sum() for part in expected.values()))


def gradients_of(
    model: nn.Module, task: AbstractModelOutput, parameters: Collection[str] | None
) -> LayerGradients | FunctionalGradients:
    """The way that suits the task; a subclass with a get_output of its own goes through torch.func."""
    if isinstance(task, LogitsModelOutput) and type(task).get_output is LogitsModelOutput.get_output:
        return LayerGradients(model, task, parameters)
    return FunctionalGradients(model, task, parameters)
