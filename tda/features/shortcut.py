"""A planted shortcut: a coloured patch on a share of one class's training images, which a network learns to go by."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tda.data.splits import Split
from tda.data.tasks import Task
from tda.system.errors import UserError


@dataclass(frozen=True)
class Patch:
    """What is planted where.

    colour: red, green and blue in [0, 1]; an image with one channel gets the largest of them. size: side in pixels; row,
    column: of the upper left pixel, negative ones counted from the lower and right edge; label: the class that carries it;
    share: of that class's training images.
    """

    colour: tuple[float, float, float] = (1.0, 0.0, 0.0)
    size: int = 5
    row: int = 2
    column: int = 2
    label: int = 0
    share: float = 0.5

    def region(self, task: Task) -> Tensor:
        """Where the patch lies, (h, w) bool; raises UserError if it is not wholly inside the image."""
        side = task.kind.size
        row, column = (start + side if start < 0 else start for start in (self.row, self.column))
        if not (self.size >= 1 and 0 <= row <= side - self.size and 0 <= column <= side - self.size):
            raise UserError(
                f"a patch of {self.size}x{self.size} pixels at row {self.row}, column {self.column} does not lie inside the "
                f"{side}x{side} images of {task.name}; choose another size or place"
            )
        inside = torch.zeros(side, side, dtype=torch.bool)
        inside[row : row + self.size, column : column + self.size] = True
        return inside

    def on(self, images: Tensor, task: Task) -> Tensor:
        """The normalised images (n, c, h, w) with the patch on each."""
        colour = torch.tensor(self.colour if task.kind.channels == 3 else (max(self.colour),))
        value = (colour - torch.tensor(task.kind.mean)) / torch.tensor(task.kind.std)
        return torch.where(self.region(task).to(images.device), value.to(images)[:, None, None], images)


def plant(train: Split, patch: Patch, task: Task) -> tuple[Split, Tensor]:
    """The training split with the patch on the first examples of its class, and their positions (k,).

    Raises UserError for an unknown class or a share outside (0, 1].
    """
    if not 0 <= patch.label < len(task.classes):
        raise UserError(f"class {patch.label} is none of {task.name}'s, which are 0 to {len(task.classes) - 1}")
    if not 0 < patch.share <= 1:
        raise UserError(f"the share of patched training images must lie above 0 and up to 1, not at {patch.share}")
    own = torch.nonzero(train.labels == patch.label).flatten()
    chosen = own[: max(1, round(patch.share * len(own)))]
    images = train.inputs.clone()
    images[chosen] = patch.on(images[chosen], task)
    return replace(train, inputs=images), chosen
