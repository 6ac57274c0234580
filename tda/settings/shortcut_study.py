"""Constants and arguments of the step that plants a shortcut."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfSeeds


@dataclass(kw_only=True)
class ShortcutStudy(OfSeeds):
    """What is planted, and which maps are taken of it."""

    force: bool = False
    """Train the models with the patch again; needed after the patch was changed."""
    red: float
    """Red of the patch, from 0 to 1; images with one channel get the largest of the three."""
    green: float
    """Green of the patch, from 0 to 1."""
    blue: float
    """Blue of the patch, from 0 to 1."""
    patch_size: int
    """Side of the patch in pixels."""
    patch_row: int
    """Row of its upper left pixel; negative ones count from the lower edge."""
    patch_column: int
    """Column of its upper left pixel; negative ones count from the right edge."""
    patched_class: int
    """Class whose training images carry the patch, counted from 0."""
    patched_share: float
    """Share of that class's training images that carry it."""
    num_test: int
    """Misread test images whose maps are taken, at most."""
    num_train: int
    """Most influential patched training images of each."""
    scores: tuple[str, ...]
    """Scores whose maps are taken: some of grad_cos, grad_dot and if (slow where training images are many), with commas."""
    smoothing_copies: int
    """Noisy copies of the training image that a smoothed map averages over."""
    smoothing_deviation: float
    """Standard deviation of their noise, as a share of the range of the image's values."""
    channel_reduction: str
    """How the channels of a map become one: largest, sum or norm."""
    num_checkpoints: int
    """A seed's map is the mean over this many of its last checkpoints."""
