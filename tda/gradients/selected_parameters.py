"""Which of a model's parameters gradients are taken of, and models of which none can be taken."""

from collections.abc import Collection

import torch
from torch import nn

from tda.system.errors import UserError


def selected_shapes(model: nn.Module, parameters: Collection[str] | None) -> dict[str, torch.Size]:
    """Shapes of the named parameters, by default those that require gradients; raises UserError for an unknown name or none."""
    available = dict(model.named_parameters())
    if parameters is None:
        parameters = [name for name, parameter in available.items() if parameter.requires_grad]
    unknown = sorted(set(parameters) - set(available))
    if unknown:
        raise UserError(f"the model has no parameter named {unknown[0]!r}; its parameters are {', '.join(available)}")
    selected = {name: parameter.shape for name, parameter in available.items() if name in set(parameters)}
    if not selected:
        raise UserError("no parameter is selected: name some, or let the model's parameters require gradients")
    for name in selected:
        if available[name].is_complex():
            raise UserError(f"the parameter {name!r} is complex; inner products are taken of real gradients: name the others")
    return selected


def floating_parameters(model: nn.Module) -> list[str]:
    """Names of all parameters that can have gradients."""
    return [name for name, parameter in model.named_parameters() if parameter.is_floating_point()]


def refuse_opaque(model: nn.Module) -> None:
    """Raise UserError for a model that spreads its batch over copies, or whose modules torch has compiled to a script."""
    for name, module in model.named_modules():
        where = f"the module {name!r}" if name else "the model"
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            raise UserError(
                f"{where} is a {type(module).__name__}, whose copies process parts of a batch; give what it wraps, `.module`"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError(
                f"{where} is a TorchScript module, which hides what happens inside; give the nn.Module it was made from"
            )


def refuse_batch_statistics(model: nn.Module) -> None:
    """Raise UserError where a batch normalisation would take its statistics from the batch."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or not module.track_running_stats):
            raise UserError(
                f"the batch normalisation {name!r} would mix the examples of a batch, so that no example has a gradient of its "
                "own; call model.eval() first, and keep running statistics"
            )
