"""Constants and arguments of the step that puts maps to the test."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfSeeds


@dataclass(kw_only=True)
class MapTruthTest(OfSeeds):
    """Which maps rank the pixels of which images."""

    force: bool = False
    """Accepted as by every script; this one always computes everything anew."""
    num_test: int
    """Test images, spread evenly over the test subset."""
    num_train: int
    """Most helpful training images of each, which make the batch of the added step."""
    score: str
    """Score whose maps rank the pixels, and that picks the training images: grad_cos or grad_dot."""
    ranked_by: str
    """What ranks the pixels: map, by its size, or map_times_change: the signed map times the pixel's distance from the mean."""
    smoothing_copies: int
    """Noisy copies of the training image that a map averages over; 0 for the image itself."""
    smoothing_deviation: float
    """Standard deviation of their noise, as a share of the range of the image's values."""
