"""Classifiers of photographs in the forms in which their checkpoints are published, for attribution alone."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from tda.models.image_bases import IMAGENET_MEAN, IMAGENET_STD
from tda.system.errors import UserError
from tda.system.files import reading

RANDOM = "random"


def _resnet18(num_classes: int, image_size: int) -> nn.Module:
    """ResNet-18 of torchvision (He et al. 2016): 11.7 million parameters with 1,000 classes; images of any size."""
    from torchvision.models import resnet18

    return resnet18(num_classes=num_classes)


def _vit_b_16(num_classes: int, image_size: int) -> nn.Module:
    """ViT-B/16 of transformers (Dosovitskiy et al. 2021): 86 million parameters, 12 layers of width 768."""
    from transformers import ViTConfig, ViTForImageClassification

    if image_size % 16:
        raise UserError(f"--image_size {image_size} is no multiple of 16, the patches of vit_b_16; choose another")
    return ViTForImageClassification(ViTConfig(image_size=image_size, num_labels=num_classes))


CLASSIFIERS: dict[str, Callable[[int, int], nn.Module]] = {"resnet18": _resnet18, "vit_b_16": _vit_b_16}


def photograph_classifier(name: str, num_classes: int, image_size: int) -> nn.Module:
    """The network with random weights, of a fixed seed; raises UserError for another name."""
    if name not in CLASSIFIERS:
        raise UserError(f"--model {name} is no classifier of photographs; choose one of {', '.join(CLASSIFIERS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CLASSIFIERS[name](num_classes, image_size)


def photograph_state(model: nn.Module, checkpoint: str) -> dict[str, Tensor]:
    """A checkpoint's state dict, or the model's own for the word `random`.

    Raises UserError if the file is missing or damaged, or is a state dict of another network.
    """
    own = model.state_dict()
    if checkpoint == RANDOM:
        return own
    path = Path(checkpoint)
    try:
        with reading(path):
            state = _read(path)
    except FileNotFoundError as error:
        raise UserError(f"checkpoint {path} is missing; give a file of a state dict, or the word {RANDOM}") from error
    except UserError:
        raise
    except Exception as error:  # torch's and safetensors' readers raise what they like
        raise UserError(f"checkpoint {path} cannot be read as a state dict; save it by torch.save or safetensors") from error
    for name, tensor in own.items():
        if name not in state or state[name].shape != tensor.shape:
            held = tuple(state[name].shape) if name in state else "missing"
            raise UserError(f"checkpoint {path} is of another network: {name} is {held}, not {tuple(tensor.shape)}")
    return {name: state[name] for name in own}


def normalised(pixels: Tensor) -> Tensor:
    """Pictures (n, size, size, 3) uint8 as (n, 3, size, size) float32 as the networks take them, by ImageNet's mean."""
    mean, spread = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / spread


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    found = torch.load(path, map_location="cpu", weights_only=True)
    return found["state_dict"] if isinstance(found.get("state_dict"), dict) else found
