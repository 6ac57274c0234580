"""Maps of one image alone: against automatic differentiation, and Grad-CAM's formula."""

import pytest
import torch
from torch import nn

from tda.features.baselines import grad_cam, input_gradients
from tda.system.errors import UserError


def test_input_gradients_are_those_of_each_image_alone(tiny):
    _, test, members = tiny
    found = input_gradients(members[0].model, test.inputs, test.labels)
    for position in (0, 7):
        image = test.inputs[position : position + 1].clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(members[0].model(image), test.labels[position : position + 1])
        torch.testing.assert_close(found[position], torch.autograd.grad(loss, image)[0][0])


def test_grad_cam_is_the_weighted_sum_of_the_last_convolutions_channels(tiny):
    pytest.importorskip("captum")
    _, test, members = tiny
    model = members[0].model
    found = grad_cam(model, test.inputs[:2], test.labels[:2])
    activations = model[0](test.inputs[:2]).detach().requires_grad_()
    logits = model[1:](activations).gather(1, test.labels[:2, None])
    weights = torch.autograd.grad(logits.sum(), activations)[0].mean((2, 3), keepdim=True)
    small = (weights * activations.detach()).sum(1, keepdim=True).relu()
    expected = torch.nn.functional.interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(found, expected)


def test_grad_cam_needs_a_convolution():
    pytest.importorskip("captum")
    with pytest.raises(UserError, match="a model with a convolution"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.zeros(1, 1, 2, 2), torch.tensor([0]))
