"""Kinds of input. A task has one; it alone knows pixels and tokenizers, and how an example is shown to a person.

A kind has two methods: `inputs` makes what models are trained on of examples as a data set has them, `shown` makes of one
example's inputs what a person looks at: a picture (h, w) or (h, w, 3) in [0, 1], a text, or both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tda.system.errors import UserError
from tda.system.inputs import Inputs

if TYPE_CHECKING:
    from tda.data.tokenizers import Vocabulary

Shown = tuple[np.ndarray | None, str | None]
"""A picture, (h, w) grey or (h, w, 3) coloured in [0, 1], and a text; what a kind does not have is None."""


@dataclass(frozen=True)
class ImageKind:
    """Images of one size: normalised pixels (n, channels, size, size) float32.

    mean, std: a channel each, or one for all, of images scaled to [0, 1]. Raises UserError for other numbers of them, and for a
    std that is not above 0.
    """

    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not {np.size(self.mean), np.size(self.std)} <= {1, self.channels} or np.min(self.std) <= 0:
            raise UserError(
                f"images of {self.channels} channels have as many means and stds, or one for all, and stds above 0, not mean "
                f"{self.mean} and std {self.std}"
            )

    def inputs(self, examples: np.ndarray) -> Tensor:
        """Images (n, size, size, channels) uint8 as (n, channels, size, size), scaled to [0, 1], less mean, over std.

        Raises UserError for images of another dtype or shape.
        """
        images, shape = np.asarray(examples), (self.size, self.size, self.channels)
        if images.dtype != np.uint8 or images.shape[1:] != shape:
            raise UserError(
                f"an image is {images.dtype} {images.shape[1:]}, not uint8 {shape} as its task's kind says; bring images to "
                "that shape, their values to whole numbers from 0 to 255, or name another size or number of channels"
            )
        return normalised(images, self.mean, self.std)

    def shown(self, image: Tensor) -> Shown:
        """A normalised image (c, h, w) as it looked before normalisation."""
        mean, std = np.reshape(self.mean, (-1, 1, 1)), np.reshape(self.std, (-1, 1, 1))
        pixels = np.clip(image.cpu().numpy() * std + mean, 0, 1)
        return (pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)), None


@dataclass(frozen=True)
class TextKind:
    """Texts as token ids with masks: a dict of tensors (n, length) by the names of the model's arguments.

    encode: texts, or pairs of texts -> that dict, all padded or cut to one length; decode: one example's dict -> its text.
    vocabulary: what models must know of the tokens; None where nothing is known but the functions. within: texts and a place in
    each, its first character and the one behind its last -> which tokens (n, length) lie there.
    """

    encode: Callable[[list[str] | list[tuple[str, str]]], dict[str, Tensor]]
    decode: Callable[[dict[str, Tensor]], str]
    vocabulary: "Callable[[], Vocabulary] | None" = None
    within: Callable[[Sequence[str], Sequence[tuple[int, int]]], Tensor] | None = None

    def inputs(self, examples: Sequence[str] | np.ndarray | tuple[Sequence[str], Sequence[str]]) -> dict[str, Tensor]:
        """Texts, or of a tuple pairs of texts, as token ids and masks; raises UserError for what is no text."""
        if isinstance(examples, tuple):
            return self.encode([tuple(map(_text, pair)) for pair in zip(*examples, strict=True)])
        return self.encode([_text(text) for text in examples])

    def shown(self, tokens: dict[str, Tensor]) -> Shown:
        """The text that the tokens stand for."""
        return None, self.decode(tokens)


@dataclass(frozen=True)
class ImageTextKind:
    """Images with texts: pixels under the name `pixels` beside the text's tensors.

    Examples are pairs, (images, texts).
    """

    image: ImageKind
    text: TextKind
    pixels: str = "pixel_values"

    def inputs(self, examples: tuple[np.ndarray, Sequence[str]]) -> dict[str, Tensor]:
        """Both parts in one dict."""
        images, texts = examples
        return {self.pixels: self.image.inputs(images), **self.text.inputs(texts)}

    def shown(self, pair: dict[str, Tensor]) -> Shown:
        """The picture and the text."""
        tokens = {name: part for name, part in pair.items() if name != self.pixels}
        return self.image.shown(pair[self.pixels])[0], self.text.shown(tokens)[1]


Kind = ImageKind | TextKind | ImageTextKind


def normalised(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images (n, h, w, c) uint8 scaled to [0, 1], less mean, over std (one for each channel or for all): (n, c, h, w)."""
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32) / 255
    return ((scaled - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)).contiguous()


def shown_inputs(kind: Kind, inputs: Inputs, position: int) -> Shown:
    """What a person looks at of one example of a split's inputs."""
    part = {name: part[position] for name, part in inputs.items()} if isinstance(inputs, dict) else inputs[position]
    return kind.shown(part)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise UserError(
            f"an example is the {type(value).__name__} {value}, not a text; fill or remove it where texts are loaded"
        )
    return str(value)
