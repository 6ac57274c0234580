"""One batch's weighted loss, differentiated through torch.func along many directions of parameter space, for any model."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import grad, jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tda.curvature.batch_statistics import open_normalisation
from tda.curvature.weighted_batch import Values, WeightedBatch
from tda.gradients.activation_memory import activation_bytes, fitting
from tda.gradients.single_precision import without_autocast
from tda.system.errors import UserError, first_line
from tda.system.inputs import call, count_of, device_of

# Tangents of this many directions at a time, at most: a CPU does better with what lies in its caches.
_AT_ONCE = {"cpu": 24, "cuda": 128}


class MappedBatch:
    """A batch's derivatives (batch_derivatives.BatchDerivatives) for any model."""

    def __init__(self, model: nn.Module, batch: WeightedBatch) -> None:
        self._model, self._batch = model, batch
        memory = activation_bytes(model, batch.inputs) * count_of(batch.inputs)
        # A tangent's forward and backward pass keep several times what the pass itself does.
        self.at_once = fitting(4 * memory, _AT_ONCE.get(batch.labels.device.type, 24))
        self.gradient = batch.gradient
        if self.gradient is None:
            with self._open():
                self.gradient = grad(lambda values: self._losses(values)[0])(batch.values)

    def products(self, tangents: Values) -> tuple[Values, Tensor, Values]:
        with refused(), self._open():
            slopes, (losses, statistics) = vmap(self._along, randomness="same")(tangents)
        return slopes, losses, statistics

    def example_gradients(self) -> Values:
        with self._open():
            terms, pull_back = vjp(lambda values: self._losses(values)[1][0] * self._batch.factors, self._batch.values)
            return vmap(lambda chosen: pull_back(chosen)[0])(torch.eye(len(terms)).to(terms))

    def pulled_back(self, adjoints: Values) -> Values:
        with self._open():
            _, pull_back = vjp(lambda values: self._losses(values)[1][1], self._batch.values)
            return vmap(lambda chosen: pull_back(chosen)[0])(adjoints)

    def _along(self, tangent: Values) -> tuple[Values, tuple[Tensor, Values]]:
        """What one tangent (*shape) makes of the gradient, the examples' losses, and the batch's statistics."""
        return jvp(grad(self._losses, has_aux=True), (self._batch.values,), (tangent,))[1]

    def _losses(self, values: Values) -> tuple[Tensor, tuple[Tensor, Values]]:
        """The batch's loss, the examples' losses, and the batch's statistics."""
        batch = self._batch
        logits, statistics = self._outputs(values)
        losses = batch.objective.loss(logits, batch.labels)
        return (losses * batch.factors).sum(), (losses, statistics)

    def _outputs(self, values: Values) -> tuple[Tensor, Values]:
        """The logits, and the batch's statistics."""
        with self._batch.surroundings(), open_normalisation(self._model) as statistics:
            return call(self._model, self._batch.inputs, values), statistics

    @contextmanager
    def _open(self) -> Iterator[None]:
        # Fused attention has no rule for forward-mode derivatives.
        with sdpa_kernel(SDPBackend.MATH), without_autocast(device_of(self._batch.inputs)):
            yield


@contextmanager
def refused() -> Iterator[None]:
    """Say in a sentence what functional transforms cannot do."""
    try:
        yield
    except RuntimeError as error:
        if "memory" in str(error):
            raise
        reason = first_line(error)
        raise UserError(f"torch cannot follow tangents of parameters through this model ({reason}); choose loo") from error
