"""Reading and writing a model's state."""

import torch
from torch import nn

from tda.models.model_state import ModelState, read_state, trained_buffers, trained_parameters, write_state


def model(seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    made[3].bias.requires_grad_(False)
    return made


def optimizer_of(made: nn.Module, steps: int) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adam([parameter for parameter in made.parameters() if parameter.requires_grad], lr=0.1, fused=True)
    for step in range(steps):
        optimizer.zero_grad()
        made(torch.ones(2, 1, 4, 4) * (step + torch.arange(2.0)[:, None, None, None])).square().sum().backward()
        optimizer.step()
    return optimizer


def test_only_what_is_trained_is_kept():
    state = read_state(model(0))
    assert (
        set(state.parameters) == {"0.weight", "0.bias", "1.weight", "1.bias", "3.weight"} == set(trained_parameters(model(0)))
    )
    assert set(state.buffers) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"} == set(trained_buffers(model(0)))
    assert state.optimizer == {}


def test_training_continues_as_if_it_had_not_been_interrupted():
    first = model(0)
    optimizer = optimizer_of(first, 3)
    state = read_state(first, optimizer)
    second = model(1)
    second[3].bias.data.copy_(first[3].bias)
    resumed = torch.optim.Adam([parameter for parameter in second.parameters() if parameter.requires_grad], lr=0.1, fused=True)
    write_state(state, second, resumed)
    for made, its_optimizer in ((first, optimizer), (second, resumed)):
        its_optimizer.zero_grad()
        made(torch.arange(32.0).view(2, 1, 4, 4)).square().sum().backward()
        its_optimizer.step()
    left, right = read_state(first, optimizer), read_state(second, resumed)
    for name, tensor in left.parameters.items():
        assert torch.equal(tensor, right.parameters[name])
    assert all(int(step) == 4 for step in right.optimizer["step"].values())


def test_state_is_a_copy_in_contiguous_layout():
    made = model(0).to(memory_format=torch.channels_last)
    state = read_state(made)
    before = state.parameters["0.weight"].clone()
    made[0].weight.data.zero_()
    assert torch.equal(state.parameters["0.weight"], before) and state.parameters["0.weight"].is_contiguous()
    write_state(state, made)
    made[0].weight.data.zero_()
    assert torch.equal(state.parameters["0.weight"], before)


def test_empty_optimizer_state_starts_afresh():
    made = model(0)
    optimizer = optimizer_of(made, 2)
    state = read_state(made)
    write_state(ModelState(state.parameters, state.buffers), made, optimizer)
    assert len(optimizer.state) == 0
