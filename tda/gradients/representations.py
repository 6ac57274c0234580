"""Penultimate representations: what goes into a model's classifier, found by looking at a forward pass."""

import torch
from torch import Tensor, nn

from tda.gradients.evaluation_mode import evaluation
from tda.gradients.recorded_pass import floating_tensors
from tda.gradients.single_precision import in_single_precision, single_precision
from tda.system.errors import UserError
from tda.system.inputs import Inputs, batches_of, call, chosen

BATCH_SIZE = 64


def penultimate_representations(model: nn.Module, inputs: Inputs) -> Tensor:
    """What goes into the model's classifier for each example: n inputs -> (n, d), the model in evaluation mode.

    The classifier is the innermost module with parameters whose output is the logits or, where only the whole model puts out
    the logits, the linear layer called last. A model in 16 bits is computed in float32. Raises UserError if there is neither.
    """
    model, inputs = single_precision(model), in_single_precision(inputs)
    classifier = classifier_of(model, chosen(inputs, slice(0, 1)))
    found: list[Tensor] = []
    handle = classifier.register_forward_hook(
        lambda _, arguments, keywords, __: found.append(_input(arguments, keywords)), with_kwargs=True
    )
    try:
        with evaluation(model, differentiable=()), torch.no_grad():
            for batch in batches_of(inputs, BATCH_SIZE):
                call(model, batch)
    finally:
        handle.remove()
    return torch.cat(found)


def classifier_of(model: nn.Module, example: Inputs) -> nn.Module:
    """The module that makes logits of a representation, by one forward pass over one example; see above.

    Raises UserError where no module puts out the logits and none is linear.
    """
    calls: list[tuple[nn.Module, Tensor]] = []
    inner = [module for module in model.modules() if module is not model and next(module.parameters(), None) is not None]
    handles = [module.register_forward_hook(lambda module, _, output: calls.append((module, output))) for module in inner]
    try:
        with evaluation(model, differentiable=()), torch.no_grad():
            logits = call(model, example)
    finally:
        for handle in handles:
            handle.remove()
    # A module ends before those around it, so that the first in order of ending is the innermost.
    for module, output in calls:
        if any(tensor.shape == logits.shape and torch.equal(tensor, logits) for tensor in floating_tensors(output)):
            return module
    linear = [module for module, _ in calls if isinstance(module, nn.Linear)]
    if linear:
        return linear[-1]
    raise UserError("the model has no classifier whose inputs could be compared: no module puts out the logits, none is linear")


def _input(arguments: tuple, keywords: dict) -> Tensor:
    return floating_tensors((arguments, keywords))[0].detach().flatten(1)
