"""Per-example gradients by the names of the package `trak`, on those of example_gradients.py."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from tda.system.errors import UserError
from tda.trak.abstract_output import AbstractModelOutput, LogitsModelOutput
from tda.trak.batches import Batch, batch_of, mapped
from tda.trak.example_gradients import BatchedGradients, FunctionalGradients, LayerGradients
from tda.trak.projectors import RowProjection
from tda.trak.utils import vectorize


class AbstractGradientComputer(ABC):
    """A gradient computer of one's own: a subclass with the three methods below, given to a TRAKer as a class."""

    @abstractmethod
    def __init__(
        self,
        model: nn.Module,
        task: AbstractModelOutput,
        grad_dim: int | None = None,
        dtype: torch.dtype | None = torch.float32,
        device: str | torch.device | None = "cpu",
        grad_wrt: Iterable[str] | None = None,
    ) -> None:
        """grad_dim: numbers of a gradient; dtype: of the rows; grad_wrt: names of parameters, None for all that are trained."""
        self.model = model
        self.modelout_fn = task
        self.grad_dim = grad_dim
        self.dtype = dtype
        self.device = device
        self.grad_wrt = None if grad_wrt is None else list(grad_wrt)

    @abstractmethod
    def load_model_params(self, model: nn.Module) -> None:
        """The model now has another checkpoint's weights."""

    @abstractmethod
    def compute_per_sample_grad(self, batch: Sequence[Tensor]) -> dict[str, Tensor] | Tensor:
        """Gradients of f by parameter name, (n, *shape) each, or end to end (n, p)."""

    @abstractmethod
    def compute_loss_grad(self, batch: Sequence[Tensor]) -> Tensor:
        """Q's diagonal (n,) or (n, 1)."""


class FunctionalGradientComputer(AbstractGradientComputer):
    """Gradients of get_output of one example, all at once where torch.func.vmap gives the right ones."""

    _way = FunctionalGradients

    def __init__(
        self,
        model: nn.Module,
        task: AbstractModelOutput,
        grad_dim: int | None = None,
        dtype: torch.dtype | None = torch.float32,
        device: str | torch.device | None = "cpu",
        grad_wrt: Iterable[str] | None = None,
    ) -> None:
        """As of AbstractGradientComputer."""
        super().__init__(model, task, grad_dim, dtype, device, grad_wrt)
        self.load_model_params(model)

    def load_model_params(self, model: nn.Module) -> None:
        """Take the model's weights and buffers."""
        self.model = model
        self.func_weights, self.func_buffers = dict(model.named_parameters()), dict(model.named_buffers())
        self._gradients = self._way(model, self.modelout_fn, self.grad_wrt)

    def compute_per_sample_grad(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        """Gradients of f by parameter name, (n, *shape) each."""
        blocks = list(self._gradients.blocks(batch_of(batch)))
        return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}

    def compute_loss_grad(self, batch: Sequence[Tensor]) -> Tensor:
        """Q's diagonal, as the task gives it."""
        return self._gradients.out_to_loss(batch_of(batch)).detach()


class IterativeGradientComputer(FunctionalGradientComputer):
    """Gradients of a get_output of a whole batch (n,), one backward pass for each example."""

    _way = BatchedGradients

    def compute_per_sample_grad(self, batch: Sequence[Tensor]) -> Tensor:
        """Gradients of f end to end (n, p)."""
        return vectorize(super().compute_per_sample_grad(batch))


class ComputedGradients:
    """Rows by a program's own gradient computer, which is given batches as the program hands them over."""

    def __init__(self, computer: AbstractGradientComputer) -> None:
        """computer: of the model whose weights are loaded."""
        self.computer = computer

    def take_weights(self, model: nn.Module) -> None:
        """Compute with the weights that were loaded into the model."""
        self.computer.load_model_params(model)

    def projected(self, batch: Batch, projection: RowProjection) -> Tensor:
        """Projected gradients (n, dimension) of the batch's examples."""
        gradients = self.computer.compute_per_sample_grad(batch=mapped(batch, torch.clone))
        return projection.project_gradients(gradients if isinstance(gradients, dict) else {"": gradients})

    def out_to_loss(self, batch: Batch) -> Tensor:
        """Q's diagonal, as the computer gives it."""
        return self.computer.compute_loss_grad(mapped(batch, torch.clone))


ExampleGradients = LayerGradients | FunctionalGradients | BatchedGradients | ComputedGradients


def gradient_computer_of(
    given: type[AbstractGradientComputer] | None,
    model: nn.Module,
    task: AbstractModelOutput,
    parameters: list[str],
    dtype: torch.dtype,
    device: torch.device,
) -> AbstractGradientComputer:
    """The gradient computer that a TRAKer is given as a class, by default a functional one; raises UserError if it is none.

    parameters: names of those that gradients are taken of.
    """
    given = FunctionalGradientComputer if given is None else given
    methods = ("load_model_params", "compute_per_sample_grad", "compute_loss_grad")
    if not isinstance(given, type) or not all(hasattr(given, name) for name in methods):
        raise UserError(f"gradient_computer is {given!r}; give a subclass of AbstractGradientComputer, not an object of it")
    count = sum(model.get_parameter(name).numel() for name in parameters)
    return given(model=model, task=task, grad_dim=count, dtype=dtype, device=device, grad_wrt=parameters)


def gradients_of(computer: AbstractGradientComputer, parameters: list[str]) -> ExampleGradients:
    """What gives rows of the task's examples, for the weights that the computer's model has now and those it gets later.

    A task that is a function of logits goes layer by layer whichever of the two computers is named: the numbers are the same.
    """
    if type(computer) not in (FunctionalGradientComputer, IterativeGradientComputer):
        return ComputedGradients(computer)
    task = computer.modelout_fn
    is_layered = isinstance(task, LogitsModelOutput) and task.goes_layer_by_layer
    return (LayerGradients if is_layered else computer._way)(computer.model, task, parameters)
