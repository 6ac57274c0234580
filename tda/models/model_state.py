"""A model's state as plain tensors: trained parameters, buffers and what the optimizer remembers of each parameter."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ModelState:
    """Tensors on the CPU by parameter or buffer name.

    optimizer: {quantity: {parameter name: tensor}}, for Adam exp_avg, exp_avg_sq and step; empty for a fresh start.
    """

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, dict[str, Tensor]] = field(default_factory=dict)


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, kept and attributed to, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def trained_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The persistent buffers of modules that training can change, by name."""
    persistent = model.state_dict(keep_vars=True)
    return {name: buffer for name, buffer in model.named_buffers() if name in persistent}


def read_state(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> ModelState:
    """Copy a model's state, and its optimizer's, to the CPU in contiguous layout."""
    parameters = trained_parameters(model)
    remembered: dict[str, dict[str, Tensor]] = {}
    if optimizer is not None:
        for name, parameter in parameters.items():
            for quantity, tensor in optimizer.state[parameter].items():
                remembered.setdefault(quantity, {})[name] = _copied(tensor)
    return ModelState(
        {name: _copied(parameter) for name, parameter in parameters.items()},
        {name: _copied(buffer) for name, buffer in trained_buffers(model).items()},
        remembered,
    )


def write_state(state: ModelState, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Copy a state into a model, and its optimizer, in place; an empty optimizer state starts the optimizer afresh."""
    parameters = trained_parameters(model)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state.parameters[name])
        for name, buffer in trained_buffers(model).items():
            buffer.copy_(state.buffers[name])
    if optimizer is not None:
        optimizer.state.clear()
        for quantity, tensors in state.optimizer.items():
            for name, tensor in tensors.items():
                parameter = parameters[name]
                fits = tensor.shape == parameter.shape
                like = torch.empty_like(parameter).copy_(tensor) if fits else tensor.to(parameter.device, copy=True)
                optimizer.state[parameter][quantity] = like


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
