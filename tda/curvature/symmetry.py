"""Is the Hessian that torch gives one? A matrix of second derivatives is symmetric.

An operator whose double backward pass is wrong, as that of torch's fused weight normalisation is in 2.11, gives products that
belong to no symmetric matrix, and nothing else shows it.
"""

import copy

import torch
from torch import Tensor, nn

from tda.curvature.products import hessian_product
from tda.data.splits import Split
from tda.gradients.quantities import probe_quantity
from tda.models.model_state import trained_parameters
from tda.system.errors import UserError
from tda.system.random_streams import stream

_EXAMPLES, _VECTORS = 2, 4
_TOLERANCE = 1e-4
_SYMMETRIC: set[str] = set()


def require_symmetric_hessian(model: nn.Module, split: Split) -> None:
    """Raise UserError unless u^T H v = v^T H u in float64 for random vectors, H the Hessian of a sum of two examples' logits.

    Not of the loss, whose Hessian is rounding where a network is sure. Networks of the same modules are looked at once: what is
    wrong is an operator, whatever the weights.
    """
    network = repr([_described(module) for module in model.modules()])
    if network in _SYMMETRIC:
        return
    few = split[: min(_EXAMPLES, len(split))]
    try:
        precise = copy.deepcopy(model).double()
        found = _between_random_vectors(precise, few.cast(torch.float64))
    except UserError:
        raise
    except Exception:
        # Of a model that cannot be copied, or takes no float64, or has no room for it, it is not known.
        return
    apart = float((found - found.T).norm() / found.norm()) if found.norm() > 0 else 0.0
    if apart > _TOLERANCE:
        raise UserError(
            f"the second derivatives of this model are wrong: its Hessian is off symmetry by {apart:.1%}, since one of its "
            "operators has a wrong double backward pass (torch's weight normalisation has); take the Gauss-Newton matrix, or "
            "write that operator by others"
        )
    _SYMMETRIC.add(network)


def _described(module: nn.Module) -> tuple:
    plain = {name: value for name, value in vars(module).items() if isinstance(value, bool | int | float | str)}
    return type(module), sorted(plain.items())


class _OfLogits:
    """An objective whose loss is a sum of all logits."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(n,)."""
        return probe_quantity(logits, labels)


def _between_random_vectors(model: nn.Module, split: Split) -> Tensor:
    """u_i^T H u_j (k, k)."""
    size = sum(parameter.numel() for parameter in trained_parameters(model).values())
    vectors = torch.randn(_VECTORS, size, generator=stream(0, "symmetry"), dtype=torch.float64).to(split.device)
    product = hessian_product(model, _OfLogits(), split)
    return vectors @ torch.cat([product(vector[None]) for vector in vectors]).T
