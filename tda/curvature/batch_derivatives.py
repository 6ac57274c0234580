"""One batch's weighted loss, differentiated along many directions of parameter space, for any model.

Networks that are a row of known layers go through layered_network.py; others through torch.func, which takes two to three times
as long and whose forward-mode derivatives only one thread of a process may use.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import grad, jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tda.curvature.batch_statistics import open_normalisation
from tda.curvature.layered_network import LayeredBatch, layers_of
from tda.gradients.activation_memory import activation_bytes, fitting
from tda.gradients.objectives import Objective
from tda.gradients.single_precision import without_autocast
from tda.system.errors import UserError
from tda.system.inputs import Inputs, call, count_of, device_of

Values = dict[str, Tensor]

# Tangents of this many directions at a time, at most: enough that what they share is read seldom.
_DIRECTIONS_AT_ONCE = {"cpu": 50, "cuda": 128}
# Through functional transforms a CPU does better with what lies in its caches.
_MAPPED_AT_ONCE = {"cpu": 24, "cuda": 128}


@dataclass(frozen=True)
class WeightedBatch:
    """Examples and the loss that a training step takes: the sum over the batch of factor times the example's loss.

    inputs of b examples, labels (b, ...), factors (b,); values: the trained parameters at which it is differentiated.
    surroundings: opened around every forward pass, for what a training step draws; the same is drawn each time.
    gradient: of the sum by parameter where it is known; None is to be computed.
    """

    objective: Objective
    inputs: Inputs
    labels: Tensor
    factors: Tensor
    values: Values
    surroundings: Callable[[], AbstractContextManager] = nullcontext
    gradient: Values | None = None


class BatchDerivatives(Protocol):
    """Derivatives of a weighted batch.

    gradient: (*shape) by parameter; at_once: directions that one call of `products` should take.
    """

    gradient: Values
    at_once: int

    def products(self, tangents: Values) -> tuple[Values, Tensor, Values]:
        """Along tangents (k, *shape): those of the gradient, of the examples' losses (k, b), and of the batch's statistics.

        Raises UserError for a model with a layer whose forward-mode derivative torch does not have.
        """

    def example_gradients(self) -> Values:
        """The gradient of each example's term of the sum: (b, *shape) by parameter."""

    def pulled_back(self, adjoints: Values) -> Values:
        """The adjoints (k, *shape) of the parameters for those of the batch's statistics."""


class Differentiator:
    """What differentiates the batches of one model; the model's own parameters are never read."""

    def __init__(self, model: nn.Module) -> None:
        self._model, self._makers = model, layers_of(model)

    @property
    def layered(self) -> bool:
        """Whether the network is a row of known layers, so that several threads may differentiate at once."""
        return self._makers is not None

    def __call__(self, batch: WeightedBatch) -> BatchDerivatives:
        """The batch's derivatives; the model stays in the mode, training or evaluation, that it is in."""
        if self._makers is not None and isinstance(batch.inputs, Tensor):
            return _Layered(self._makers, batch)
        return _Mapped(self._model, batch)


class _Layered:
    def __init__(self, makers: list, batch: WeightedBatch) -> None:
        self.at_once = _DIRECTIONS_AT_ONCE.get(batch.labels.device.type, 50)
        with torch.no_grad():
            self._batch = LayeredBatch(
                makers, batch.objective, batch.inputs, batch.labels, batch.factors, batch.values, batch.gradient
            )
        self.gradient = self._batch.gradient

    @torch.no_grad()
    def products(self, tangents: Values) -> tuple[Values, Tensor, Values]:
        return *self._batch.products(tangents), {}

    @torch.no_grad()
    def example_gradients(self) -> Values:
        return self._batch.example_gradients()

    def pulled_back(self, adjoints: Values) -> Values:
        return {}


class _Mapped:
    def __init__(self, model: nn.Module, batch: WeightedBatch) -> None:
        self._model, self._batch = model, batch
        memory = activation_bytes(model, batch.inputs) * count_of(batch.inputs)
        # A tangent's forward and backward pass keep several times what the pass itself does.
        self.at_once = fitting(4 * memory, _MAPPED_AT_ONCE.get(batch.labels.device.type, 24))
        self.gradient = batch.gradient
        if self.gradient is None:
            with self._open():
                self.gradient = grad(lambda values: self._losses(values)[0])(batch.values)

    def products(self, tangents: Values) -> tuple[Values, Tensor, Values]:
        def along(tangent: Values) -> tuple[Values, tuple[Tensor, Values]]:
            return jvp(grad(self._losses, has_aux=True), (self._batch.values,), (tangent,))[1]

        try:
            with self._open():
                slopes, (losses, statistics) = vmap(along, randomness="same")(tangents)
        except RuntimeError as error:
            if "memory" in str(error):
                raise
            reason = str(error).split("\n")[0]
            raise UserError(f"torch cannot follow tangents of parameters through this model ({reason}); choose loo") from error
        return slopes, losses, statistics

    def example_gradients(self) -> Values:
        with self._open():
            terms, pull_back = vjp(lambda values: self._losses(values)[1][0] * self._batch.factors, self._batch.values)
            return vmap(lambda chosen: pull_back(chosen)[0])(torch.eye(len(terms)).to(terms))

    def pulled_back(self, adjoints: Values) -> Values:
        with self._open():
            _, pull_back = vjp(lambda values: self._losses(values)[1][1], self._batch.values)
            return vmap(lambda chosen: pull_back(chosen)[0])(adjoints)

    def _losses(self, values: Values) -> tuple[Tensor, tuple[Tensor, Values]]:
        """The batch's loss, the examples' losses, and the batch's statistics."""
        batch = self._batch
        with batch.surroundings(), open_normalisation(self._model) as statistics:
            logits = call(self._model, batch.inputs, values)
        losses = batch.objective.loss(logits, batch.labels)
        return (losses * batch.factors).sum(), (losses, statistics)

    @contextmanager
    def _open(self) -> Iterator[None]:
        # Fused attention has no rule for forward-mode derivatives.
        with sdpa_kernel(SDPBackend.MATH), without_autocast(device_of(self._batch.inputs)):
            yield
