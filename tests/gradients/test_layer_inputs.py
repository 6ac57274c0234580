"""Inputs of a model's last layers, as a plain forward pass gives them."""

import pytest
import torch
from torch import nn

from tda.gradients.layer_inputs import layer_inputs
from tda.gradients.representations import penultimate_representations
from tda.system.errors import UserError


def test_last_layers_first_averaged_over_pixels():
    first = (nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
    model = nn.Sequential(*first, nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 2))
    images = torch.randn(70, 1, 6, 6)
    model.train()
    head, hidden, pixels = layer_inputs(model, images, 8)
    assert model.training and (head.shape, hidden.shape, pixels.shape) == ((70, 5), (70, 48), (70, 1))
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(hidden, model[:4](images))
    torch.testing.assert_close(head, penultimate_representations(model, images))
    torch.testing.assert_close(pixels[:, 0], images.mean(dim=(1, 2, 3)))
    assert [rows.shape for rows in layer_inputs(model, images, 2)] == [head.shape, hidden.shape]


class OfTokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.mix, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.mix(self.embedding(input_ids)).mean(dim=1))


def test_sequences_are_averaged_over_positions():
    model, tokens = OfTokens().eval(), torch.randint(9, (5, 7))
    _, mixed = layer_inputs(model, {"input_ids": tokens}, 8)
    with torch.no_grad():
        torch.testing.assert_close(mixed, model.embedding(tokens).mean(dim=1))


def test_a_model_without_layers_is_refused():
    with pytest.raises(UserError, match="no convolution and no linear layer"):
        layer_inputs(nn.Sequential(nn.Flatten(), nn.LayerNorm(4)), torch.randn(3, 4), 2)
