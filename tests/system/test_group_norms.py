"""Group normalisation behind frozen layers, in the format of images on a CPU: gradients are right, and the process lives.

The models are tried in a process of their own, which torch would kill (torch 2.11, without the guard).
"""

import subprocess
import sys

import pytest
import torch
from torch import nn

from tda.system.devices import on_device
from tda.system.group_norms import guarded_group_norms

PROGRAM = """
import torch
from torch import nn
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.quantities import cross_entropy_loss
from tda.system.devices import on_device

torch.manual_seed(0)
layers = {layers}
inputs, labels = torch.randn(6, 4, {side}, {side}).contiguous(memory_format=torch.channels_last), torch.arange(6) % 3
with torch.no_grad():
    width = nn.Sequential(*layers)(inputs).flatten(1).shape[1]
model = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(width, 3))
layers[0].requires_grad_(len(layers) == 1)
plain = [parameter for parameter in model.parameters() if parameter.requires_grad]
losses = nn.functional.cross_entropy(model(inputs.contiguous()), labels, reduction="none")
expected = [torch.cat([part.flatten() for part in torch.autograd.grad(loss, plain, retain_graph=True)]) for loss in losses]

if {ours}:
    model = on_device(model, torch.device("cpu"))
    nn.functional.cross_entropy(model(inputs), labels).backward()
    torch.testing.assert_close(torch.cat([part.grad.flatten() for part in plain]), torch.stack(expected).mean(0))
else:
    model.to(memory_format=torch.channels_last)
for many in (6, 10000):
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    rows = plan_gradients(model, inputs, None, many, many).rows(inputs, labels, cross_entropy_loss, 4)
    torch.testing.assert_close(rows.dense(names), torch.stack(expected), rtol=1e-4, atol=1e-6)
"""

LAYERS = {
    "behind a frozen convolution": "[nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4)]",
    "first": "[nn.GroupNorm(2, 4)]",
}


@pytest.mark.parametrize("ours", [True, False], ids=["moved", "in the format already"])
def test_gradients_where_the_input_needs_none(ours: bool) -> None:
    """What each program says before it begins is where a process that is killed was."""
    cases = [(name, layers, side) for name, layers in LAYERS.items() for side in (6, 1)]
    programs = [
        f"print({f'{name}, {side} pixels'!r}, flush=True)" + PROGRAM.format(layers=layers, side=side, ours=ours)
        for name, layers, side in cases
    ]
    done = subprocess.run([sys.executable, "-c", "".join(programs)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == len(cases)


def test_the_guard_is_taken_back() -> None:
    model = nn.Sequential(nn.GroupNorm(1, 2))
    with guarded_group_norms(model):
        assert model[0]._forward_pre_hooks
    assert not model[0]._forward_pre_hooks


def test_inputs_that_need_a_gradient_are_not_copied() -> None:
    model = on_device(nn.Sequential(nn.GroupNorm(1, 2)), torch.device("cpu"))
    inputs = torch.randn(3, 2, 4, 4).contiguous(memory_format=torch.channels_last)
    assert model(inputs.clone().requires_grad_()).is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert model(inputs).is_contiguous(memory_format=torch.channels_last)
    assert model(inputs).is_contiguous()
