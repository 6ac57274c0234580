"""What a pass keeps, counted by hand, and what fits."""

import torch
from torch import nn

from tda.gradients import activation_memory
from tda.gradients.activation_memory import activation_bytes, fitting


def test_activations_are_counted_once_and_weights_are_not():
    model = nn.Sequential(nn.Linear(10, 100), nn.Tanh(), nn.Linear(100, 3))
    # Kept are the input of each linear layer; tanh keeps its output, which is the second one's input.
    assert activation_bytes(model, torch.ones(7, 10)) == 4 * (10 + 100)
    model[0].requires_grad_(False)
    assert activation_bytes(model, torch.ones(7, 10)) == 4 * 100


def test_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    activation_bytes(model, torch.ones(1, 2))
    assert model.training and model[0].weight.grad is None


def test_as_many_fit_as_the_budget_holds(monkeypatch):
    monkeypatch.setattr(activation_memory, "ACTIVATION_BUDGET", 100)
    assert [fitting(size, 8) for size in (0, 1, 20, 30, 101)] == [8, 8, 5, 3, 1]
