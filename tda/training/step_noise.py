"""What one training step draws at random: dropout masks and crops, from streams that a seed and the step's number fix.

Torch's own dropout draws from a generator that all threads of a process share, so that models trained beside each other would
depend on each other. Here the same step of the same seed draws the same, in whatever company and whichever example is removed.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tda.models.seeded_dropout import SeededDropout, Source
from tda.system.inputs import Inputs, mapped
from tda.system.random_streams import stream, stream_seed

_CROP_AREA = (0.08, 1.0)
_CROP_ASPECT = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class StepNoise:
    """What the step of this number in a training of this seed draws, and whether it computes in mixed precision."""

    seed: int
    step: int
    random_crop: bool = False
    mixed_precision: bool = False

    @contextlib.contextmanager
    def applied_to(self, model: nn.Module, device: torch.device) -> Iterator[None]:
        """Let the model's dropout draw from this step's stream, and the forward pass run in the step's precision."""
        generator = self.dropout_generator(device)
        with drawing_from(model, lambda shape, place: torch.rand(shape, generator=generator, device=place)):
            with torch.autocast(device.type, torch.bfloat16, enabled=self.mixed_precision):
                yield

    def dropout_generator(self, device: torch.device) -> torch.Generator:
        """What the step's dropout layers draw from, one after another."""
        return torch.Generator(device).manual_seed(stream_seed(self.seed, f"dropout of step {self.step}"))

    def cropped(self, inputs: Inputs) -> Inputs:
        """Pictures (b, c, h, w) replaced by crops of random area (8 to 100 %) and aspect, resized, if crops are wanted."""
        if not self.random_crop:
            return inputs
        generator = stream(self.seed, f"crops of step {self.step}")
        return mapped(inputs, lambda part: _random_crops(part, generator) if part.dim() == 4 else part)


@contextlib.contextmanager
def drawing_from(model: nn.Module, source: Source) -> Iterator[None]:
    """Let every SeededDropout of the model ask the source, and give each its own back."""
    layers = [module for module in model.modules() if isinstance(module, SeededDropout)]
    before = [layer.source for layer in layers]
    for layer in layers:
        layer.source = source
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.source = own


def _random_crops(pictures: Tensor, generator: torch.Generator) -> Tensor:
    return torch.stack([_random_crop(picture, generator) for picture in pictures])


def _random_crop(picture: Tensor, generator: torch.Generator) -> Tensor:
    # It takes a second and more to import, and few trainings crop.
    from torchvision.transforms.v2.functional import resized_crop

    height, width = picture.shape[-2:]
    area, aspect, top, left = torch.rand(4, generator=generator).tolist()
    area = height * width * (_CROP_AREA[0] + area * (_CROP_AREA[1] - _CROP_AREA[0]))
    aspect = math.exp(math.log(_CROP_ASPECT[0]) + aspect * math.log(_CROP_ASPECT[1] / _CROP_ASPECT[0]))
    crop_width = max(1, min(width, round(math.sqrt(area * aspect))))
    crop_height = max(1, min(height, round(math.sqrt(area / aspect))))
    corner = int(top * (height - crop_height + 1)), int(left * (width - crop_width + 1))
    return resized_crop(picture, *corner, crop_height, crop_width, [height, width], antialias=True)
