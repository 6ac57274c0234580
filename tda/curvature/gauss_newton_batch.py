"""One batch's weighted loss with the Gauss-Newton matrix in place of its Hessian, for any model.

With J the Jacobian of the batch's logits, as the step computes them (dropout, batch normalisation and all), and C the loss's
second derivative by them, the matrix is J^T C J (Schraudolph 2002): positive semi-definite, and the Hessian itself where logits
are linear in the parameters. A classifier's root S, C = S S^T, has one column less than classes, so that B = S^T J is formed
once a batch (root_gradients.py) and serves every direction by two small products. Where B would be large, as for every
token and word of a text, a direction takes a forward-mode pass and a backward one.
"""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap

from tda.curvature.mapped_batch import MappedBatch, refused
from tda.curvature.root_gradients import RootGradients
from tda.curvature.weighted_batch import Values, WeightedBatch
from tda.gradients.formed_rows import FormedRows
from tda.gradients.gradient_rows import GradientRows

# Bytes of B that are worth it.
_LARGEST_ROWS = 2**29


class GaussNewtonBatch(MappedBatch):
    """Derivatives as of MappedBatch (batch_derivatives.BatchDerivatives), of the loss with its curvature replaced."""

    def __init__(self, model: nn.Module, batch: WeightedBatch, root_gradients: RootGradients) -> None:
        super().__init__(model, batch)
        with torch.no_grad():
            self._logits, statistics = self._outputs(batch.values)
        weights = batch.objective.root_weights(self._logits, batch.labels)
        size = sum(value.numel() * value.element_size() for value in batch.values.values())
        self._rows: GradientRows | None = None
        if not statistics and weights.numel() * size <= _LARGEST_ROWS:
            self._weights = weights
            self._rows = root_gradients.of(batch, self._logits) or self._batch_rows()
            self.at_once = _LARGEST_ROWS // size or 1

    @cached_property
    def _pull_back(self) -> Callable[[Tensor], Values]:
        """What takes adjoints of the logits to those of the parameters."""
        with self._open():
            pull_back = vjp(lambda values: self._outputs(values)[0], self._batch.values)[1]
        return lambda adjoint: pull_back(adjoint)[0]

    def products(self, tangents: Values) -> tuple[Values, Tensor, Values]:
        if self._rows is None:
            return super().products(tangents)
        along = self._rows.times(tangents).view(-1, *self._weights.shape)
        losses = (along * self._weights).sum(dim=2)
        return self._rows.combined((along * self._batch.factors[:, None]).flatten(1)), losses, {}

    def example_gradients(self) -> Values:
        if self._rows is None:
            return super().example_gradients()
        weights = self._weights * self._batch.factors[:, None]
        return self._rows.combined(torch.block_diag(*weights[:, None]))

    def _along(self, tangent: Values) -> tuple[Values, tuple[Tensor, Values]]:
        batch = self._batch
        change, moved = jvp(self._outputs, (batch.values,), (tangent,))[1]
        curved = batch.objective.curved(self._logits, batch.labels, change)
        factors = batch.factors.view(-1, *(1,) * (curved.dim() - 1))
        losses = jvp(lambda logits: batch.objective.loss(logits, batch.labels), (self._logits,), (change,))[1]
        return self._pull_back(curved * factors), (losses, moved)

    def _batch_rows(self) -> GradientRows:
        """B, each of whose rows is differentiated through the whole batch."""
        objective, labels, values = self._batch.objective, self._batch.labels, self._batch.values
        with refused(), self._open():
            roots, pull_roots = vjp(lambda logits: objective.curvature_roots(logits, labels), self._logits)

            def gradient(one: Tensor) -> Values:
                return self._pull_back(pull_roots(one)[0])

            ones = torch.eye(roots.numel()).to(roots).view(-1, *roots.shape)
            try:
                gradients = vmap(gradient, chunk_size=self.at_once)(ones)
            except RuntimeError as error:
                # Not every backward pass has a rule for vmap.
                if "memory" in str(error):
                    raise
                found = [gradient(one) for one in ones]
                gradients = {name: torch.stack([each[name] for each in found]) for name in values}
        rows = FormedRows.of_gradients(gradients, roots.numel())
        return GradientRows([rows], roots, {name: value.shape for name, value in values.items()})
