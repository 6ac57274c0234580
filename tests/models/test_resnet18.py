"""ResNet-18: torchvision's and transformers' networks give the same numbers; what cannot be had."""

import urllib.error
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

from tda.models import resnet18
from tda.models.image_bases import IMAGENET_MEAN, IMAGENET_STD
from tda.models.resnet18 import RESNET18, resnet18_base
from tda.system.errors import UserError


def with_statistics(model: nn.Module) -> nn.Module:
    """Batch normalisation as if it had seen data."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.1)
    return model.eval()


def test_torchvision_s_network_gives_the_same_representations(monkeypatch: pytest.MonkeyPatch):
    network = with_statistics(torchvision.models.resnet18())
    monkeypatch.setattr(resnet18, "_torchvision_state", network.state_dict)
    network.fc = nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    base = resnet18_base("torchvision")
    with torch.no_grad():
        expected = network(images)
        torch.testing.assert_close(base.stages(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert (base.mean, base.std, base.width) == (IMAGENET_MEAN, IMAGENET_STD, 512)


def saved(folder: Path, **changed: object) -> ResNetForImageClassification:
    shape = {"embedding_size": 64, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"}
    network = with_statistics(ResNetForImageClassification(ResNetConfig(**shape | changed)))
    network.save_pretrained(folder)
    size = {"height": 64, "width": 64}
    ViTImageProcessor(size=size, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4]).save_pretrained(folder)
    return network


def test_a_folder_of_transformers_gives_the_same_representations(tmp_path: Path):
    network = saved(tmp_path)
    images = torch.randn(2, 3, 64, 64)
    base = resnet18_base(str(tmp_path))
    with torch.no_grad():
        expected = network.resnet(images).pooler_output.flatten(1)
        torch.testing.assert_close(base.stages(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert base.mean == (0.4, 0.5, 0.6) and base.std == (0.2, 0.3, 0.4)


def test_another_network_is_refused(tmp_path: Path):
    saved(tmp_path, depths=[1, 1, 1, 1])
    with pytest.raises(UserError, match="lacks the weights layer1.1.conv1.weight, so that it is another network"):
        resnet18_base(str(tmp_path))


def test_without_a_network_a_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*arguments: object, **keywords: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", unreachable)
    with pytest.raises(UserError, match="torchvision's weights of ResNet-18 .* cannot be downloaded; run once with a network"):
        resnet18_base("torchvision")


def test_random_weights_keep_activations_finite_and_alive():
    base = resnet18_base("random")
    with torch.no_grad():
        found = base.stages(torch.randn(4, 3, 32, 32))
    assert found.shape == (4, 512) and torch.isfinite(found).all() and found.std() > 0.1
    assert sum(parameter.numel() for parameter in RESNET18.stages().parameters()) == 11_171_712
