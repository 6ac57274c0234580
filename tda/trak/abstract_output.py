"""What TRAK attributes: a number f(z, theta) for each example z, and how much the training loss falls as f rises.

In the notation of Park et al. (ICML 2023, sections 3 and 5) get_output is f and get_out_to_loss_grad the diagonal of Q, here
with the sign -dL/df: positive where a higher f means a lower loss, as for every margin, of either sign for a regression. A
positive score then means that the training example raises f of the target.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from inspect import signature

import torch
from torch import Tensor, nn

from tda.system.errors import UserError
from tda.system.inputs import Inputs, call
from tda.trak.batches import Batch, label_name


class AbstractModelOutput(ABC):
    """A task of one's own: a subclass with the two methods below."""

    @abstractmethod
    def get_output(self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], *example: Tensor) -> Tensor:
        """f of one example, a scalar. example: the tensors of a batch without their first dimension.

        Call the model by torch.func.functional_call(model, (weights, buffers), ...): the result is differentiated with
        respect to the weights.
        """

    @abstractmethod
    def get_out_to_loss_grad(
        self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: list[Tensor]
    ) -> Tensor:
        """Q's diagonal for a batch of examples, (n,) or (n, 1): -dL/df, by how much the loss L falls as f rises."""


class LogitsModelOutput(AbstractModelOutput):
    """A task whose output is a function of logits and labels; its gradients are taken layer by layer.

    A subclass says what is attributed (`quantity`), what Q is (`reweighting`), which logits and labels it takes, and by which
    names the model takes a batch's parts.
    """

    keywords: dict[int, tuple[str, ...]] = {}
    """Names of the model's arguments by how many tensors a batch holds before its labels; a number left out is refused, and
    without any name the model takes a single tensor by position."""

    batched = False
    """Whether get_output takes a whole batch and gives f of each example (n,), of the model as it is."""

    @abstractmethod
    def quantity(self, logits: Tensor, labels: Tensor) -> Tensor:
        """f of each example (n,) from the model's logits (n, ...) and the batch's labels."""

    @abstractmethod
    def reweighting(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Q's diagonal (n,) from the same."""

    @abstractmethod
    def require_logits(self, shape: torch.Size) -> None:
        """Raise UserError unless a model whose logits have this shape (n, ...) fits the task."""

    @abstractmethod
    def arranged_labels(self, labels: Tensor) -> Tensor:
        """The labels in the shape and dtype that quantity takes; raises UserError for those of another kind."""

    def require_labels(self, labels: Tensor, classes: int) -> None:
        """Raise UserError where a label is none of the model's `classes` (the last dimension of its logits)."""

    def split(self, batch: Batch) -> tuple[Inputs, Tensor]:
        """The model's inputs, and the labels; raises UserError if the batch holds other things."""
        inputs, labels = self._named(batch) if isinstance(batch, dict) else self._ordered(batch)
        return inputs, self.arranged_labels(labels)

    def get_output(self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], *example: Tensor) -> Tensor:
        """f of one example, a scalar."""
        if self.batched:
            return self._evaluate(self.quantity, model, None, None, list(example))
        return self._evaluate(self.quantity, model, weights, buffers, [tensor[None] for tensor in example]).sum()

    def get_out_to_loss_grad(
        self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: Batch
    ) -> Tensor:
        """Q's diagonal (n, 1), as trak's tasks give it: gradients (n, p) are multiplied with it as it is."""
        return self._evaluate(self.reweighting, model, weights, buffers, batch)[:, None]

    @property
    def goes_layer_by_layer(self) -> bool:
        """Whether the logits and labels tell all: not in a subclass with a get_output of its own."""
        return type(self).get_output is LogitsModelOutput.get_output

    def _evaluate(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        model: nn.Module,
        weights: dict[str, Tensor] | None,
        buffers: dict[str, Tensor] | None,
        batch: Batch,
    ) -> Tensor:
        inputs, labels = self.split(batch)
        return function(call(model, inputs, None if weights is None else (weights, buffers or {})), labels)

    def _named(self, batch: dict[str, Tensor]) -> tuple[Inputs, Tensor]:
        label = label_name(batch)
        if label is None or len(batch) < 2:
            raise UserError(f"the batch holds {', '.join(batch)}; it must hold inputs, and labels by the name labels or label")
        inputs = {name: part for name, part in batch.items() if name != label}
        is_single = len(inputs) == 1 and not self.keywords.get(1)
        return (next(iter(inputs.values())) if is_single else inputs), batch[label]

    def _ordered(self, batch: list[Tensor]) -> tuple[Inputs, Tensor]:
        *inputs, labels = batch
        if len(inputs) not in (self.keywords or {1: ()}):
            forms = " or ".join(f"({', '.join(names or ('inputs',))}, labels)" for names in (self.keywords or {1: ()}).values())
            raise UserError(f"{type(self).__name__} takes batches {forms}, not of {len(batch)} tensors")
        names = self.keywords.get(len(inputs))
        return (dict(zip(names, inputs, strict=True)) if names else inputs[0]), labels


def arranged(task: AbstractModelOutput, batch: Batch) -> list[Tensor]:
    """The batch as the task's get_output takes its parts: those of a dict in the order of the method's arguments.

    A task may have part_names, tuples of names, instead. Raises UserError where the batch's names are others.
    """
    if not isinstance(batch, dict):
        return batch
    if isinstance(task, LogitsModelOutput) and task.goes_layer_by_layer:
        raise UserError(f"a gradient computer takes the batches of {type(task).__name__} as tuples, labels last, not as dicts")
    forms = getattr(task, "part_names", None) or (tuple(signature(task.get_output).parameters)[3:],)
    for names in forms:
        if set(names) == set(batch):
            return [batch[name] for name in names]
    raise UserError(
        f"the batch holds {', '.join(batch)}, but get_output of {type(task).__name__} takes {', '.join(forms[0])}; give the "
        "tensors in that order, or by those names"
    )
