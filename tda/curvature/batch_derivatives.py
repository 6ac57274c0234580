"""One batch's weighted loss, differentiated along many directions of parameter space, for any model.

Networks that are a row of known layers go through layered_network.py; others through torch.func (mapped_batch.py), which takes
two to three times as long and whose forward-mode derivatives only one thread of a process may use.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from tda.curvature.gauss_newton_batch import GaussNewtonBatch
from tda.curvature.layered_network import LayeredBatch, layers_of
from tda.curvature.mapped_batch import MappedBatch
from tda.curvature.root_gradients import RootGradients
from tda.curvature.weighted_batch import Values, WeightedBatch

# Tangents of this many directions at a time, at most: enough that what they share is read seldom.
_DIRECTIONS_AT_ONCE = {"cpu": 50, "cuda": 128}


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
    """What differentiates the batches of one model; the model's own parameters are never read.

    gauss_newton: with the Gauss-Newton matrix in place of the loss's Hessian, which leaves out the network's own curvature
    (gauss_newton_batch.py).
    """

    def __init__(self, model: nn.Module, gauss_newton: bool = False) -> None:
        self.gauss_newton, self._model = gauss_newton, model
        self._makers = None if gauss_newton else layers_of(model)
        self._root_gradients = RootGradients(model)

    @property
    def layered(self) -> bool:
        """Whether the network is a row of known layers, so that several threads may differentiate at once."""
        return self._makers is not None

    def __call__(self, batch: WeightedBatch) -> BatchDerivatives:
        """The batch's derivatives; the model stays in the mode, training or evaluation, that it is in."""
        if self._makers is not None and isinstance(batch.inputs, Tensor):
            return _Layered(self._makers, batch)
        if self.gauss_newton:
            return GaussNewtonBatch(self._model, batch, self._root_gradients)
        return MappedBatch(self._model, batch)


class _Layered:
    def __init__(self, makers: list, batch: WeightedBatch) -> None:
        self.at_once = _DIRECTIONS_AT_ONCE.get(batch.labels.device.type, 50)
        with torch.no_grad():
            self._batch = LayeredBatch(makers, batch)
        self.gradient = self._batch.gradient

    @torch.no_grad()
    def products(self, tangents: Values) -> tuple[Values, Tensor, Values]:
        return *self._batch.products(tangents), {}

    @torch.no_grad()
    def example_gradients(self) -> Values:
        return self._batch.example_gradients()

    def pulled_back(self, adjoints: Values) -> Values:
        return {}
