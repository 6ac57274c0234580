"""Two towers whose embeddings of an image and its text find each other among others (Radford et al., CLIP, 2021).

In training an example is compared with the other examples of its batch. Where it is scored, it is compared with a company that
is drawn once, and is taken as it is: its embeddings are those of the same parameters, but no derivative goes through them (Park
et al., TRAK, 2023, section 5.1). So the logits of an example depend on it alone, and its gradient is exact, whoever else is in
its batch.
"""

import copy
import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from tda.models.shared_weights import SharesFrozenWeights
from tda.system.errors import UserError
from tda.system.inputs import Inputs

IMAGE_FEATURES, TEXT_FEATURES = "image_features", "text_features"
"""By these names a model takes what its towers made of images and texts, in place of these."""

_FIRST_SCALE, _LARGEST_SCALE = 1 / 0.07, 100.0
"""What similarities are multiplied with at first, and at most, as in CLIP."""
_FINENESS, _MIXER = 2.0**16, 0x9E3779B97F4A7C1
"""Steps to which images are told apart, and what mixes the places of their numbers."""


def fingerprints(images: Tensor) -> Tensor:
    """Of each image (n, ...) a sum in whole numbers, which has no order and no rounding."""
    numbers = (images.flatten(1).double() * _FINENESS).round().long()
    weights = torch.arange(1, numbers.shape[1] + 1, device=numbers.device) * _MIXER
    return ((numbers + weights) * (weights ^ (weights >> 31))).sum(dim=1)


class Comparison(nn.Module):
    """Scaled similarities of each pair's image with texts, and of its text with images, the own ones first."""

    def __init__(self, scale: float = _FIRST_SCALE) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def forward(self, pairs: Tensor, others: Tensor | None = None, present: Tensor | None = None) -> Tensor:
        """Logits (n, 2, C) of pairs of unit vectors (n, 2 * d), the image's first.

        others: (C, 2 * d), C - 1 of which each pair is compared with; present: (n, C), which of them is the pair itself, at
        most one; that one gives place to the last. Without others the pairs are compared with each other, C = n.
        """
        image, text = pairs.chunk(2, dim=1)
        if others is None:
            similarities = _own_first(image @ text.T)
        else:
            images, texts = others.chunk(2, dim=1)
            own = (image * text).sum(dim=1, keepdim=True)
            sides = (image @ texts.T, text @ images.T)
            sides = [torch.where(present[:, :-1], side[:, -1:], side[:, :-1]) for side in sides]
            similarities = torch.stack([torch.cat([own, side], dim=1) for side in sides], dim=1)
        return similarities * self.logit_scale.clamp(max=math.log(_LARGEST_SCALE)).exp()


class Side(nn.Module):
    """One tower and its projection: inputs, or what the tower made of them, to unit vectors (n, d)."""

    def __init__(self, tower: nn.Module | None, projection: nn.Module) -> None:
        super().__init__()
        self.tower, self.projection = tower, projection

    def forward(self, features: Tensor | None = None, **given: Tensor) -> Tensor:
        """features: (n, width), in place of what the tower takes."""
        features = self.tower(**given) if features is None else features
        return functional.normalize(self.projection(features), dim=1)


class ContrastiveModel(SharesFrozenWeights):
    """Pairs of image and text to logits (n, 2, C); copies share the frozen weights' memory, the company's inputs among them.

    pixels: the name by which images come.
    """

    def __init__(self, image: Side, text: Side, comparison: Comparison, pixels: str) -> None:
        super().__init__()
        self.sides = nn.ModuleDict({"image": image, "text": text})
        self.comparison, self.pixels = comparison, pixels
        self.company = nn.ParameterDict()
        self._observe()

    def forward(self, **inputs: Tensor) -> Tensor:
        """Compared within the batch in training, with the company in evaluation."""
        pairs = _embedded(self.sides, self._by_side(inputs))
        if self.training:
            return self.comparison(pairs)
        if not len(self.company):
            raise UserError("the model has no company to compare pairs with; give it some by meet()")
        company = dict(self.company.items())
        with torch.no_grad():
            others = _embedded(self.__dict__["_observed"], self._by_side(company))
        return self.comparison(pairs, others, self._present(inputs, company))

    def embeddings(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Unit vectors of images and of texts, (n, d) each."""
        return tuple(_embedded(self.sides, self._by_side(inputs)).chunk(2, dim=1))

    def picture_of(self, inputs: Inputs) -> Tensor:
        """A number (n,) for each pair's image, the same for the same image alone."""
        return fingerprints(inputs[IMAGE_FEATURES if IMAGE_FEATURES in inputs else self.pixels])

    def meet(self, inputs: Inputs) -> None:
        """Take these pairs, of different images, for company: one more than each example is compared with."""
        # Frozen parameters: they go where the model goes, and no checkpoint holds them.
        self.company = nn.ParameterDict(
            {name: nn.Parameter(part.detach().clone(), requires_grad=False) for name, part in inputs.items()}
        )

    def _by_side(self, inputs: Inputs) -> dict[str, dict[str, Tensor]]:
        """What each side takes."""
        found: dict[str, dict[str, Tensor]] = {"image": {}, "text": {}}
        for name, part in inputs.items():
            if name in (IMAGE_FEATURES, TEXT_FEATURES):
                found["image" if name == IMAGE_FEATURES else "text"]["features"] = part
            else:
                found["image" if name == self.pixels else "text"][name] = part
        return found

    def _present(self, inputs: Inputs, company: Inputs) -> Tensor:
        """Which of the company (n, C) has the image of each example."""
        name = IMAGE_FEATURES if IMAGE_FEATURES in company else self.pixels
        own = inputs[name]
        return fingerprints(own)[:, None] == fingerprints(company[name].to(own.dtype))

    def _observe(self) -> None:
        """Make a second set of sides with the same numbers in the same memory, which nothing differentiates or records.

        The company passes through it. Called through the sides themselves, it would be taken for further examples by whoever
        follows what goes through them, and for constants of other parameters by whoever swaps these.
        """
        memo: dict[int, object] = {}
        for parameter in self.sides.parameters():
            memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
        for buffer in self.sides.buffers():
            memo[id(buffer)] = buffer
        observed = copy.deepcopy(self.sides, memo)
        for module in observed.modules():
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
        # Not registered as a module: its parameters are not the model's.
        self.__dict__["_observed"] = observed.eval()

    def _apply(self, function: object, recurse: bool = True) -> Self:
        super()._apply(function, recurse)
        self._observe()
        return self

    def __deepcopy__(self, memo: dict) -> Self:
        memo[id(self.__dict__["_observed"])] = ()
        duplicate = super().__deepcopy__(memo)
        duplicate._observe()
        return duplicate


def _embedded(sides: nn.ModuleDict, given: dict[str, dict[str, Tensor]]) -> Tensor:
    """Pairs of unit vectors (n, 2 * d), the image's first."""
    return torch.cat([sides[name](**given[name]) for name in ("image", "text")], dim=1)


def _own_first(similarities: Tensor) -> Tensor:
    """Of similarities (n, n) of images with texts: (n, 2, n), both sides' rows, turned so that the own pair comes first."""
    places = torch.arange(len(similarities), device=similarities.device)
    order = (places[:, None] + places) % len(places)
    return torch.stack([side.gather(1, order) for side in (similarities, similarities.T)], dim=1)
