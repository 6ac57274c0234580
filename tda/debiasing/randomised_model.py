"""The randomised-model test (Adebayo et al. 2018; Hanawa et al. 2021): a score that hardly changes where what the model has
learned is destroyed says nothing about the model."""

from dataclasses import replace

import torch

from tda.data.splits import Split
from tda.methods.registry import Method
from tda.models.model_state import ModelState
from tda.system.random_streams import stream
from tda.training.members import Member, built


def shuffled(member: Member) -> Member:
    """A member whose trained parameters have the same entries, each tensor's in random places; always the same for a seed.

    Sizes of weights stay layer by layer, and what they say is lost. A base model's frozen parameters stay as they are.
    """
    parameters = {}
    for name, tensor in member.state.parameters.items():
        places = torch.randperm(tensor.numel(), generator=stream(member.seed, f"shuffled {name}"))
        parameters[name] = tensor.flatten()[places].reshape(tensor.shape)
    state = ModelState(parameters, member.state.buffers, member.state.optimizer)
    return built([replace(member, state=state, cache={})])[0]


def scores_of_shuffled(method: Method, member: Member, train: Split, test: Split, settings: dict) -> torch.Tensor:
    """A method's scores (n_train, n_test) for a member whose parameters are shuffled."""
    (found,) = method.score([shuffled(member)], train, test, settings)
    return found.scores
