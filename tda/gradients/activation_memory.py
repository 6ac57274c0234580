"""How much a model's passes keep in memory, so that what runs at once fits: a large transformer keeps 150 MB an example."""

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from tda.gradients.evaluation_mode import evaluation
from tda.gradients.single_precision import in_single_precision, single_precision
from tda.system.inputs import Inputs, call, chosen

ACTIVATION_BUDGET = 2**30
"""Bytes of activations that passes over many examples or vectors keep near."""


def activation_bytes(model: nn.Module, inputs: Inputs) -> int:
    """Bytes that a forward pass over one of the examples keeps for the backward pass, weights aside, in float32 at least."""
    model = single_precision(model)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    # The pass is alive until all is counted, so that no storage is counted under another's address.
    with evaluation(model, trained), saved_tensors_hooks(count, lambda tensor: tensor):
        logits = call(model, in_single_precision(chosen(inputs, slice(0, 1))))
    del logits
    return sum(kept.values())


def fitting(per_item: int, most: int, budget: int | None = None) -> int:
    """How many items of so many bytes fit the budget, ACTIVATION_BUDGET by default: at least 1, and `most` at most."""
    return max(1, min(most, (budget or ACTIVATION_BUDGET) // max(1, per_item)))
