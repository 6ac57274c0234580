"""Clipping by the whole gradient's norm."""

import torch

from tda.models.gradient_clipping import clip, clipping_factors


def test_factor_is_the_limit_over_the_norm():
    gradients = [torch.tensor([[3.0]]), torch.tensor([4.0])]
    torch.testing.assert_close(clipping_factors(gradients, 1.0), torch.tensor([0.2]))
    assert clipping_factors(gradients, 6.0).tolist() == [1.0]
    assert clipping_factors([torch.zeros(3)], 1.0).tolist() == [1.0]


def test_each_model_of_a_stack_has_its_own_norm():
    gradients = [torch.tensor([[3.0, 0.0], [0.3, 0.0], [0.0, 6.0]]), torch.tensor([4.0, 0.4, 8.0])]
    torch.testing.assert_close(clipping_factors(gradients, 1.0, stacked=True), torch.tensor([0.2, 1.0, 0.1]))
    parameters = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    clip(parameters, 1.0, stacked=True)
    lengths = (parameters[0].grad.square().sum(1) + parameters[1].grad.square()).sqrt()
    torch.testing.assert_close(lengths, torch.tensor([1.0, 0.5, 1.0]))


def test_clipping_leaves_the_direction():
    parameters = [torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.zeros(())), torch.nn.Parameter(torch.ones(1))]
    parameters[0].grad, parameters[1].grad = torch.full((2, 2), 2.0), torch.tensor(3.0)
    clip(parameters, 0.5)
    torch.testing.assert_close(parameters[0].grad, torch.full((2, 2), 0.2))
    torch.testing.assert_close(parameters[1].grad, torch.tensor(0.3))
    assert parameters[2].grad is None


def test_a_vanishing_gradient_can_be_differentiated_through():
    gradient = torch.zeros(3, requires_grad=True)
    (gradient * clipping_factors([gradient], 1.0)).sum().backward()
    assert torch.equal(gradient.grad, torch.ones(3))
