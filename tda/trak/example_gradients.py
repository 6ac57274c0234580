"""Projected gradients of a task's output for the examples of a batch, and its Q.

A task that is a function of logits goes layer by layer, where no layer's gradient need be formed. Any other is differentiated
as a whole: all examples at once where torch.func.vmap can do that and is right, else one at a time by plain autograd.
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from textwrap import shorten

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tda.gradients.evaluation_mode import evaluation
from tda.gradients.gradient_kernel import BLOCK_SIZE
from tda.gradients.gradient_plan import GradientPlan, plan_gradients
from tda.gradients.selected_parameters import floating_parameters, refuse_batch_statistics, selected_shapes
from tda.system.errors import UserError
from tda.system.inputs import Inputs, call, chosen, in_their_places, parts_of
from tda.trak.abstract_output import AbstractModelOutput, LogitsModelOutput, arranged
from tda.trak.batches import Batch
from tda.trak.modelout_functions import SequenceToSequenceModelOutput
from tda.trak.projectors import FormedProjection, RowProjection

_LOGGER = logging.getLogger("tda.trak")

_MEMORY_BUDGET = 2**29
"""Bytes of gradients that are held at once."""

_TOLERANCE = 1e-3
"""Largest relative difference between vmap and plain autograd with which vmap passes for right in float32."""

_NO_GRADIENT = (
    "the model's output has no gradient with respect to the chosen parameters; compute it without torch.no_grad() and "
    "detach(), and from the weights that get_output is given"
)


class LayerGradients:
    """Gradients of a LogitsModelOutput, layer by layer."""

    def __init__(self, model: nn.Module, task: LogitsModelOutput, parameters: Collection[str] | None) -> None:
        """parameters: names, by default those that require gradients."""
        self.model, self.task, self.parameters = model, task, parameters
        self._plan: GradientPlan | None = None
        self._block_sizes: dict[tuple, int] = {}

    def take_weights(self, model: nn.Module) -> None:
        """Other weights were loaded: the plan is proved anew, for what is right where some are zero need not be elsewhere."""
        self._plan = None

    def projected(self, batch: Batch, projection: RowProjection) -> Tensor:
        """Projected gradients (n, dimension) of the batch's examples; raises UserError where logits or labels do not fit."""
        inputs, labels = self.task.split(batch)
        if self._plan is None:
            self._classes = self._inspected(chosen(inputs, slice(0, 1)))
        self.task.require_labels(labels, self._classes)
        if self._plan is None:
            with _explained_places():
                self._plan = plan_gradients(self.model, inputs, self.parameters)
        size = self._block_size(chosen(inputs, slice(0, 1)), labels[:1], isinstance(projection, FormedProjection))
        blocks = self._plan.streamed(inputs, labels, self.task.quantity, size)
        with _explained_places():
            return torch.cat([projection.project(rows) for rows in blocks])

    def out_to_loss(self, batch: Batch) -> Tensor:
        """Q's diagonal (n,)."""
        return _out_to_loss(self.model, self.task, batch)

    def _inspected(self, inputs: Inputs) -> int:
        """The last dimension of the model's logits; raises UserError where they, or their gradients, do not suit the task.

        An example that reaches none of the chosen parameters, but others, has gradient zero.
        """
        refuse_batch_statistics(self.model)
        with evaluation(self.model, differentiable=floating_parameters(self.model)):
            try:
                logits = call(self.model, inputs)
            except torch.OutOfMemoryError:
                raise
            except (TypeError, ValueError, RuntimeError, IndexError) as error:
                what = ", ".join(inputs) if isinstance(inputs, dict) else f"inputs {tuple(inputs.shape)}"
                raise UserError(
                    f"the model cannot be called with {what}, as its task does{self._other_task()}: {_first_line(error)}"
                ) from error
        self.task.require_logits(logits.shape)
        if not logits.requires_grad:
            raise UserError(_NO_GRADIENT)
        if logits.is_complex():
            raise UserError("the model's logits are complex; give real ones, such as their absolute values")
        return logits.shape[-1] if logits.dim() else 1

    def _other_task(self) -> str:
        """The task for a model of encoder and decoder, where another was chosen."""
        is_of_both = getattr(getattr(self.model, "config", None), "is_encoder_decoder", False)
        fits = not is_of_both or isinstance(self.task, SequenceToSequenceModelOutput)
        return "" if fits else " (for one of encoder and decoder choose the task sequence_to_sequence)"

    def _block_size(self, inputs: Inputs, labels: Tensor, is_formed: bool) -> int:
        # It depends on the inputs' shapes alone, so that a resumed run computes in the same blocks.
        shapes = (is_formed, *(part.shape for part in parts_of(inputs)))
        if shapes not in self._block_sizes:
            example_bytes = self._plan.example_bytes(inputs, labels, self.task.quantity)
            if is_formed:
                example_bytes = 2 * 4 * sum(map(torch.Size.numel, self._plan.shapes.values()))
            self._block_sizes[shapes] = max(1, min(BLOCK_SIZE, _MEMORY_BUDGET // (2 * example_bytes + 1)))
        return self._block_sizes[shapes]


@dataclass
class FunctionalGradients:
    """Gradients of any task's output for one example.

    vectorized: whether vmap does it, None until the first examples show; plain autograd does it otherwise.
    """

    model: nn.Module
    task: AbstractModelOutput
    parameters: Collection[str] | None
    vectorized: bool | None = field(default=None, init=False)
    _is_differentiable: bool = field(default=False, init=False)

    def take_weights(self, model: nn.Module) -> None:
        """Other weights were loaded, which nothing here depends on."""

    def projected(self, batch: Batch, projection: RowProjection) -> Tensor:
        """Projected gradients (n, dimension) of the batch's examples.

        Raises UserError if a module mixes the examples of a batch or the output has no gradient.
        """
        return torch.cat([projection.project_gradients(block) for block in self.blocks(batch)])

    def blocks(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """Gradients by parameter name, (n, *shape) each, a block of examples after another."""
        shapes, batch = selected_shapes(self.model, self.parameters), _copied(arranged(self.task, batch))
        if self.vectorized is None:
            refuse_batch_statistics(self.model)
            self.vectorized = self._vectorization_is_right([part[:2] for part in batch], list(shapes))
        size = max(1, _MEMORY_BUDGET // (8 * sum(shape.numel() for shape in shapes.values())))
        for block in zip(*(part.split(min(size, BLOCK_SIZE)) for part in batch), strict=True):
            yield self._computed(block, list(shapes))

    def out_to_loss(self, batch: Batch) -> Tensor:
        """Q's diagonal, as the task gives it."""
        return _out_to_loss(self.model, self.task, arranged(self.task, batch), selected_shapes(self.model, self.parameters))

    def _computed(self, block: list[Tensor], names: list[str]) -> dict[str, Tensor]:
        if self.vectorized:
            try:
                return self._vectorized(_copied(block), names)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                self._go_one_at_a_time(f"torch.func cannot follow it: {_first_line(error)}")
        return self._looped(block, names)

    def _vectorized(self, block: list[Tensor], names: list[str]) -> dict[str, Tensor]:
        weights = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        selected = {name: weights.pop(name) for name in names}
        buffers = dict(self.model.named_buffers())

        def output(selected: dict[str, Tensor], *example: Tensor) -> Tensor:
            return self._output(weights | selected, buffers, *example)

        # Fused attention has no rule for vmap.
        with evaluation(self.model, differentiable=()), sdpa_kernel(SDPBackend.MATH):
            return vmap(lambda *example: grad(output)(selected, *example), randomness="different")(*block)

    def _looped(self, block: list[Tensor], names: list[str]) -> dict[str, Tensor]:
        with evaluation(self.model, differentiable=names):
            weights, buffers = dict(self.model.named_parameters()), dict(self.model.named_buffers())
            each = []
            for example in zip(*block, strict=True):
                with _explained():
                    output = self._output(weights, buffers, *example)
                    self._is_differentiable |= output.requires_grad
                    each.append(_gradients(output, [weights[name] for name in names]))
        return {name: torch.stack(column) for name, column in zip(names, zip(*each, strict=True), strict=True)}

    def _output(self, weights: dict[str, Tensor], buffers: dict[str, Tensor], *example: Tensor) -> Tensor:
        # torch's functional_call leaves a stranger's tensor in a module that stands in two places, such as an encoder's words
        # that are its decoder's too.
        with in_their_places(self.model):
            return _single(self.task.get_output(self.model, weights, buffers, *example))

    def _vectorization_is_right(self, probe: list[Tensor], names: list[str]) -> bool:
        first, second, third = (_copied(probe) for _ in range(3))
        expected = self._looped(first, names)
        if not self._is_differentiable:
            raise UserError(_NO_GRADIENT)
        try:
            gradients = self._vectorized(second, names)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            return self._go_one_at_a_time(f"torch.func cannot follow it: {_first_line(error)}")
        if _agree(gradients, expected):
            return True
        if not _agree(self._looped(third, names), expected):
            name = type(self.task).__name__
            _LOGGER.warning("get_output of %s draws random numbers: a row depends on when it was computed", name)
            return True
        return self._go_one_at_a_time("torch.func gives it other gradients than autograd")

    def _go_one_at_a_time(self, reason: str) -> bool:
        self.vectorized = False
        _LOGGER.warning("get_output of %s is differentiated one example at a time, for %s", type(self.task).__name__, reason)
        return False


@dataclass
class BatchedGradients:
    """Gradients of a task whose get_output takes a whole batch, of the model as it is, and gives f of each example (n,)."""

    model: nn.Module
    task: AbstractModelOutput
    parameters: Collection[str] | None

    def take_weights(self, model: nn.Module) -> None:
        """Other weights were loaded, which nothing here depends on."""

    def projected(self, batch: Batch, projection: RowProjection) -> Tensor:
        """Projected gradients (n, dimension) of the batch's examples."""
        return torch.cat([projection.project_gradients(block) for block in self.blocks(batch)])

    def blocks(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """Gradients by parameter name, (n, *shape) each, a block of examples after another."""
        names, batch = list(selected_shapes(self.model, self.parameters)), _copied(arranged(self.task, batch))
        refuse_batch_statistics(self.model)
        with evaluation(self.model, differentiable=names), _explained():
            parameters = [self.model.get_parameter(name) for name in names]
            size = max(1, _MEMORY_BUDGET // (8 * sum(parameter.numel() for parameter in parameters)))
            for block in zip(*(part.split(size) for part in batch), strict=True):
                outputs = self.task.get_output(self.model, None, None, *block)
                if outputs.shape != block[0].shape[:1]:
                    raise UserError(
                        f"get_output gave {tuple(outputs.shape)} for {len(block[0])} examples; it must give one each"
                    )
                if not outputs.requires_grad:
                    raise UserError(_NO_GRADIENT)
                each = [_gradients(output, parameters, retain_graph=True) for output in outputs]
                yield {name: torch.stack(column) for name, column in zip(names, zip(*each, strict=True), strict=True)}

    def out_to_loss(self, batch: Batch) -> Tensor:
        """Q's diagonal, as the task gives it."""
        with evaluation(self.model, differentiable=self.parameters or selected_shapes(self.model, None)):
            return self.task.get_out_to_loss_grad(self.model, None, None, _copied(arranged(self.task, batch)))


def _out_to_loss(model: nn.Module, task: AbstractModelOutput, batch: Batch, differentiable: Collection[str] = ()) -> Tensor:
    weights, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    if not differentiable:
        with evaluation(model, ()), in_their_places(model):
            return task.get_out_to_loss_grad(model, weights, buffers, batch).detach()
    # A program may take Q by autograd.
    with evaluation(model, differentiable), in_their_places(model):
        return task.get_out_to_loss_grad(model, weights, buffers, _copied(batch))


def _copied(batch: Sequence[Tensor]) -> list[Tensor]:
    """A task of a program's own, or its model, may write to what it is given."""
    return [part.clone() for part in batch]


def _gradients(output: Tensor, parameters: list[nn.Parameter], retain_graph: bool = False) -> list[Tensor]:
    """The gradients of one number, zero where a parameter has no part in it."""
    kept = [parameter.grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.grad = None
        if output.requires_grad:
            # Unlike autograd.grad, it reaches parameters through a checkpoint that computes its activations again.
            output.backward(retain_graph=retain_graph)
        return [torch.zeros_like(parameter) if parameter.grad is None else _dense(parameter.grad) for parameter in parameters]
    finally:
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = gradient


def _dense(gradient: Tensor) -> Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient


def _single(output: object) -> Tensor:
    if not isinstance(output, Tensor) or output.numel() != 1:
        shape = f"numbers {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"get_output gave {shape} for one example; it must give one number, a tensor")
    return output.sum()


def _agree(gradients: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    difference = sum((gradients[name] - expected[name]).square().sum() for name in expected)
    return bool(difference <= _TOLERANCE**2 * sum(part.square().sum() for part in expected.values()))


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise UserError(
            f"the model's output cannot be differentiated for one example ({_first_line(error)}); get_output must compute a "
            "number from the weights it is given, by operations that autograd can follow"
        ) from error


@contextmanager
def _explained_places() -> Iterator[None]:
    try:
        yield
    except IndexError as error:
        raise _out_of_places(error) from error


@contextmanager
def explained_asserts() -> Iterator[None]:
    """Say of what a GPU has no place for, as it is said on a CPU; a GPU tells only where its results are waited for."""
    try:
        yield
    except torch.AcceleratorError as error:
        if "assert" not in str(error):
            raise
        raise _out_of_places(error) from error


def _out_of_places(error: Exception) -> UserError:
    return UserError(
        f"the model cannot be called with an example of this batch ({_first_line(error)}); a token beyond its vocabulary, "
        "or a text longer than its positions, would do that"
    )


def _first_line(error: Exception) -> str:
    return shorten(str(error).split("\n")[0], 160, placeholder="...")
