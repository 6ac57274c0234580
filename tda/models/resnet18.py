"""ResNet-18 (He et al. 2016) from torchvision's weights, or from the hub's, as a base for fine-tuning."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from tda.models.fine_tuning import RANDOM_BASE
from tda.models.image_bases import IMAGENET_MEAN, IMAGENET_STD, Architecture, AverageOverPlaces, ImageBase, convolution
from tda.models.vit_base import explained, silence_transformers
from tda.system.errors import UserError

WIDTHS = (64, 128, 256, 512)
TORCHVISION = "torchvision"
_OF_TRANSFORMERS = (
    (r"^resnet\.", ""),
    (r"^embedder\.embedder\.convolution", "conv1"),
    (r"^embedder\.embedder\.normalization", "bn1"),
    (r"^encoder\.stages\.(\d)\.layers\.", lambda found: f"layer{int(found[1]) + 1}."),
    (r"shortcut\.convolution", "downsample.0"),
    (r"shortcut\.normalization", "downsample.1"),
    (r"layer\.(\d)\.convolution", lambda found: f"conv{int(found[1]) + 1}"),
    (r"layer\.(\d)\.normalization", lambda found: f"bn{int(found[1]) + 1}"),
    (r"^timm_model\.", ""),
)
"""How transformers names what torchvision and timm name alike."""
_NORMALISATION = (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD))
"""What an image processor says, and what holds where it does not."""


class ResidualBlock(nn.Module):
    """Two convolutions, and what went in beside them, by a convolution of one pixel where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, 3, stride, padding=1)
        self.second = convolution(outputs, outputs, 3, padding=1)
        changes = inputs != outputs or stride != 1
        self.shortcut = convolution(inputs, outputs, 1, stride) if changes else nn.Identity()
        self.rectify_within, self.rectify = nn.ReLU(), nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        return self.rectify(self.second(self.rectify_within(self.first(inputs))) + self.shortcut(inputs))


def _stages() -> nn.Sequential:
    stem = nn.Sequential(convolution(3, 64, 7, 2, padding=3), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
    inputs = (64, *WIDTHS[:-1])
    stages = [
        nn.Sequential(ResidualBlock(before, width, 1 if before == width else 2), ResidualBlock(width, width, 1))
        for before, width in zip(inputs, WIDTHS, strict=True)
    ]
    return nn.Sequential(stem, *stages, AverageOverPlaces())


def _names() -> list[tuple[str, str]]:
    """Torchvision's names of each convolution and its batch normalisation, in the order of the modules."""
    found = [("conv1", "bn1")]
    for stage in range(1, 5):
        for block in range(2):
            place = f"layer{stage}.{block}"
            found += [(f"{place}.conv{number}", f"{place}.bn{number}") for number in (1, 2)]
            if stage > 1 and block == 0:
                found.append((f"{place}.downsample.0", f"{place}.downsample.1"))
    return found


RESNET18 = Architecture(_stages, upper=2, width=WIDTHS[-1], names=_names(), epsilon=1e-5)


def resnet18_base(base: str) -> ImageBase:
    """The base of this name: torchvision, random, a hub name, or a folder that save_pretrained wrote.

    Raises UserError if its weights can neither be read nor be downloaded, or are of another network.
    """
    if base == RANDOM_BASE:
        return RESNET18.random_base(IMAGENET_MEAN, IMAGENET_STD)
    if base == TORCHVISION:
        return RESNET18.base(_torchvision_state(), TORCHVISION, IMAGENET_MEAN, IMAGENET_STD)
    return _base_of_transformers(base)


def _torchvision_state() -> Mapping[str, Tensor]:
    from torchvision.models import ResNet18_Weights

    try:
        return ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network, a proxy's answer, or a hash that differs
        raise UserError(
            "torchvision's weights of ResNet-18 are not in its cache and cannot be downloaded; run once with a network, or "
            "give --base a folder that save_pretrained wrote"
        ) from error


def _base_of_transformers(name: str) -> ImageBase:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    silence_transformers()
    local = Path(name).is_dir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processor = explained(name, local, lambda: AutoImageProcessor.from_pretrained(name, local_files_only=local))
        network = explained(name, local, lambda: AutoModelForImageClassification.from_pretrained(name, local_files_only=local))
    state = {_torchvision_name(key): tensor for key, tensor in network.state_dict().items()}
    mean, std = (getattr(processor, key, None) or usual for key, usual in _NORMALISATION)
    return RESNET18.base(state, name, mean, std)


def _torchvision_name(key: str) -> str:
    for pattern, name in _OF_TRANSFORMERS:
        key = re.sub(pattern, name, key)
    return key
