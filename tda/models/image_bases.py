"""Pre-trained convolutional networks as fine-tuning takes them: stages in order, batch normalisation folded into weights.

A batch normalisation in evaluation mode multiplies and shifts each channel by fixed numbers, so that it and the convolution
before it are one convolution with a bias. Folded so, no example depends on its batch, whether a model is trained, scored or
looked at, and no statistic is left that a training could change: what is trained is the folded kernel and the bias.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tda.models.fine_tuning import RANDOM_BASE
from tda.system.errors import UserError
from tda.system.random_streams import stream_seed

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class ImageBase:
    """A network of images (n, 3, size, size) without its classifier, frozen.

    stages: in order, the last of which gives representations (n, width); upper: number of last stages that fine-tuning of the
    upper layers trains; mean, std: a channel each, what the network takes images in [0, 1] normalised by; sha256: of weights,
    mean and std.
    """

    stages: nn.Sequential
    upper: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str

    def frozen(self, trained: str) -> nn.Sequential:
        """The stages that stay as they are where "head", "upper" or "all" is trained."""
        return self.stages[: len(self.stages) - self._number_trained(trained)]

    def above(self, trained: str) -> nn.Sequential:
        """The stages that are trained."""
        return self.stages[len(self.stages) - self._number_trained(trained) :]

    def _number_trained(self, trained: str) -> int:
        return {"head": 0, "upper": self.upper, "all": len(self.stages)}[trained]


@dataclass(frozen=True)
class Architecture:
    """How a network is built, and how a published state of it is read.

    stages: () -> untrained stages; names: of each convolution and its batch normalisation in the state, in the order of the
    stages' convolutions; epsilon: of the batch normalisations.
    """

    stages: Callable[[], nn.Sequential]
    upper: int
    width: int
    names: Sequence[tuple[str, str]]
    epsilon: float

    def base(self, state: Mapping[str, Tensor], name: str, mean: Sequence[float], std: Sequence[float]) -> ImageBase:
        """The base with the weights of a state; raises UserError if they are of another network. name: for messages."""
        stages = self.stages()
        convolutions = [module for module in stages.modules() if isinstance(module, nn.Conv2d)]
        for convolution, (kernel, statistics) in zip(convolutions, self.names, strict=True):
            _load(convolution, state, kernel, statistics, self.epsilon, name)
        return self._frozen(stages, mean, std)

    def random_base(self, mean: Sequence[float], std: Sequence[float]) -> ImageBase:
        """The base with weights that are drawn, the same for everybody: kernels by He et al. 2015, no biases."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(0, "random image base"))
            stages = self.stages()
            for module in stages.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                    nn.init.zeros_(module.bias)
        return self._frozen(stages, mean, std)

    def _frozen(self, stages: nn.Sequential, mean: Sequence[float], std: Sequence[float]) -> ImageBase:
        stages.eval().requires_grad_(False)
        digest = hashlib.sha256(repr((list(mean), list(std))).encode())
        for key, tensor in stages.state_dict().items():
            digest.update(f"{key} {tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
        return ImageBase(stages, self.upper, self.width, tuple(mean), tuple(std), digest.hexdigest())


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1) -> nn.Conv2d:
    """A convolution with the bias that a batch normalisation after it leaves."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)


class AverageOverPlaces(nn.Module):
    """Maps (n, width, h, w) to their means (n, width)."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


def unknown_base(family: str, base: str, known: Sequence[str]) -> UserError:
    """What to say of a base that a family does not have."""
    return UserError(f"--base {base} is none of {family}'s, which are {', '.join([*known, RANDOM_BASE])}")


def _load(module: nn.Conv2d, state: Mapping[str, Tensor], kernel: str, statistics: str, epsilon: float, name: str) -> None:
    """Fold a convolution's kernel and the batch normalisation after it into one convolution, in float64."""
    parts = [f"{kernel}.weight", *(f"{statistics}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))]
    for part in parts:
        if part not in state:
            raise UserError(f"base {name} lacks the weights {part}, so that it is another network; choose another base")
    weight, scale, shift, mean, variance = (state[part].double() for part in parts)
    if weight.shape != module.weight.shape or len(scale) != len(weight):
        raise UserError(
            f"base {name} is another network: {parts[0]} is of shape {tuple(weight.shape)} instead of "
            f"{tuple(module.weight.shape)}; choose another base"
        )
    factor = scale / (variance + epsilon).sqrt()
    with torch.no_grad():
        module.weight.copy_(weight * factor[:, None, None, None])
        module.bias.copy_(shift - mean * factor)
