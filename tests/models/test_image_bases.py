"""Folding of batch normalisation, stages that are frozen or trained, and states of other networks."""

import pytest
import torch
from torch import nn

from tda.models.image_bases import Architecture, AverageOverPlaces, convolution, unknown_base
from tda.system.errors import UserError

NAMES = (("first", "norm1"), ("second", "norm2"))


def stages() -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(convolution(3, 4, 3, stride=2, padding=1), nn.ReLU()),
        nn.Sequential(convolution(4, 6, 3, groups=2), nn.ReLU()),
        AverageOverPlaces(),
    )


TINY = Architecture(stages, upper=2, width=6, names=NAMES, epsilon=1e-3)


def published() -> nn.ModuleDict:
    """The same network as it is published, with batch normalisation that has seen data."""
    layers = nn.ModuleDict(
        {
            "first": nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
            "norm1": nn.BatchNorm2d(4, eps=1e-3),
            "second": nn.Conv2d(4, 6, 3, groups=2, bias=False),
            "norm2": nn.BatchNorm2d(6, eps=1e-3),
        }
    ).double()
    for name in ("norm1", "norm2"):
        for tensor in (layers[name].weight.data, layers[name].bias.data, layers[name].running_mean):
            tensor.normal_()
        layers[name].running_var.uniform_(0.01, 4)
    return layers.eval()


def test_folded_convolutions_are_convolution_and_batch_normalisation():
    layers, images = published(), torch.randn(5, 3, 12, 12).double()
    base = TINY.base(layers.state_dict(), "tiny", (0.5,) * 3, (0.25,) * 3)
    maps = torch.relu(layers["norm1"](layers["first"](images)))
    expected = torch.relu(layers["norm2"](layers["second"](maps))).mean((2, 3))
    torch.testing.assert_close(base.stages.double()(images), expected, rtol=1e-5, atol=1e-5)
    assert base.mean == (0.5,) * 3 and base.width == 6 and not any(p.requires_grad for p in base.stages.parameters())
    assert not list(base.stages.buffers())


@pytest.mark.parametrize("trained, frozen", [("head", 3), ("upper", 1), ("all", 0)])
def test_stages_are_frozen_from_below(trained: str, frozen: int):
    base = TINY.random_base((0.0,), (1.0,))
    assert list(base.frozen(trained)) == list(base.stages)[:frozen] and list(base.above(trained)) == list(base.stages)[frozen:]


def test_random_weights_are_the_same_for_everybody_and_leave_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = (TINY.random_base((0.0,), (1.0,)) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert first.sha256 == second.sha256 != TINY.random_base((0.5,), (1.0,)).sha256
    assert first.stages[0][0].weight.std() > 0.1


def test_the_hash_is_of_the_weights():
    layers = published()
    hashes = [TINY.base(layers.state_dict(), "tiny", (0.0,), (1.0,)).sha256 for _ in range(2)]
    layers["norm2"].running_mean[3] += 0.1
    assert hashes[0] == hashes[1] != TINY.base(layers.state_dict(), "tiny", (0.0,), (1.0,)).sha256


def test_states_of_other_networks_are_refused():
    state = published().state_dict()
    with pytest.raises(UserError, match="base tiny lacks the weights norm2.running_var, so that it is another network"):
        TINY.base({name: tensor for name, tensor in state.items() if name != "norm2.running_var"}, "tiny", (0.0,), (1.0,))
    with pytest.raises(UserError, match=r"base tiny is another network: first.weight is of shape \(4, 1, 3, 3\)"):
        TINY.base(state | {"first.weight": torch.zeros(4, 1, 3, 3)}, "tiny", (0.0,), (1.0,))


def test_unknown_base_names_the_known_ones():
    assert str(unknown_base("tiny", "vit", ("package",))) == "--base vit is none of tiny's, which are package, random"
