"""The gradients of a batch's curvature roots as a training step has them, in the cheapest way that is right.

Where the step's logits are those of evaluation mode, as without dropout and batch normalisation, they are gradients of single
examples, and one backward pass a root serves all of them, layer by layer (gradients/gradient_plan.py). Otherwise each root of
each example takes a backward pass through the batch.
"""

import copy

import torch
from torch import Tensor, nn

from tda.curvature.weighted_batch import WeightedBatch
from tda.gradients.gradient_plan import GradientPlan, plan_gradients
from tda.gradients.gradient_rows import GradientRows
from tda.system.errors import UserError


class RootGradients:
    """What gives the gradients of one model's batches as long as single examples do; the model itself is not changed."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._plan: GradientPlan | None = None
        self._by_example = True

    def of(self, batch: WeightedBatch, logits: Tensor) -> GradientRows | None:
        """Rows of the roots' gradients, example after example, or None where these logits are not those of evaluation mode."""
        if not self._by_example:
            return None
        try:
            rows = self._rows(batch)
        except UserError:
            # Its examples depend on each other or on chance.
            self._by_example = False
            return None
        roots = batch.objective.curvature_roots(logits, batch.labels)
        tolerance = torch.finfo(roots.dtype).eps ** 0.5 * float(roots.abs().max())
        self._by_example = bool((rows.values - roots).abs().max() <= tolerance)
        return rows if self._by_example else None

    def _rows(self, batch: WeightedBatch) -> GradientRows:
        if self._plan is None:
            # A copy, in which the parameters take the values that a batch is differentiated at.
            self._plan = plan_gradients(copy.deepcopy(self._model), batch.inputs)
        model = self._plan.model
        with torch.no_grad():
            for name, value in batch.values.items():
                model.get_parameter(name).copy_(value)
        return self._plan.block_rows(batch.inputs, batch.labels, batch.objective.curvature_roots)
