"""What goes into each of a model's last layers, an average over positions: representations of several depths."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tda.gradients.evaluation_mode import evaluation
from tda.gradients.representations import BATCH_SIZE
from tda.gradients.single_precision import in_single_precision, single_precision
from tda.system.errors import UserError
from tda.system.inputs import Inputs, batches_of, call, count_of


def layer_inputs(model: nn.Module, inputs: Inputs, most_layers: int) -> list[Tensor]:
    """Inputs of the last layers that multiply by a matrix, last first: at most `most_layers` tensors (n, d_l) float32.

    A layer is a convolution or linear layer, in the order in which a forward pass calls them, the model in evaluation mode.
    Pictures are averaged over height and width, sequences over positions. A layer that sees something else than one row an
    example is left out. Raises UserError if there is no layer.
    """
    model, inputs = single_precision(model), in_single_precision(inputs)
    found: list[list[Tensor]] = []
    batch_calls: list[Tensor] = []
    handles = [module.register_forward_hook(_keep(batch_calls)) for module in model.modules() if _is_layer(module)]
    try:
        with evaluation(model, differentiable=()), torch.no_grad():
            for batch in batches_of(inputs, BATCH_SIZE):
                batch_calls.clear()
                call(model, batch)
                count = count_of(batch)
                rows = [_averaged(part) for part in batch_calls if len(part) == count]
                found.append(rows[-most_layers:][::-1])
    finally:
        for handle in handles:
            handle.remove()
    if not found or not found[0]:
        raise UserError("the model has no convolution and no linear layer whose inputs could be compared")
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def _is_layer(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return weight is not None and weight.dim() > 1 and not isinstance(module, (nn.Embedding, nn.EmbeddingBag))


def _keep(calls: list[Tensor]) -> Callable:
    def hook(module: nn.Module, arguments: tuple, output: Tensor) -> None:
        if arguments and torch.is_floating_point(arguments[0]) and arguments[0].dim() > 1:
            calls.append(arguments[0].detach())

    return hook


def _averaged(part: Tensor) -> Tensor:
    """(n, c, h, w) over pixels, (n, positions, d) over positions; (n, d) as it is."""
    if part.dim() == 4:
        return part.mean(dim=(2, 3)).float()
    return part.flatten(1, -2).mean(dim=1).float() if part.dim() > 2 else part.float()
