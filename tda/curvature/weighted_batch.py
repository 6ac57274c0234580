"""A batch of examples with the loss that a training step takes of it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor

from tda.gradients.objectives import Objective
from tda.system.inputs import Inputs

Values = dict[str, Tensor]


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
