"""Constants and arguments of the step that attributes influence to pixels."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfSeeds


@dataclass(kw_only=True)
class FeatureAttribution(OfSeeds):
    """Whose models, which pairs, and how their maps are taken and drawn."""

    force: bool = False
    """Accepted as by every script; this one always computes everything anew."""
    source: str
    """Where models and images come from: experiment (a trained ensemble), folders (class folders) or voc2012."""
    folder: str
    """With folders: the folder that holds train/<class>/ and test/<class>/ with images."""
    network: str
    """With folders or voc2012: torchvision's name of the classifier."""
    checkpoints: tuple[str, ...]
    """With folders or voc2012: files of its trained parameters, one a seed, with commas."""
    parameters: tuple[str, ...]
    """With folders or voc2012: attribute to parameters whose names begin so, with commas; without any to all."""
    explained_class: str
    """With voc2012: the class whose logit is explained."""
    image_size: int
    """With folders or voc2012: side that images are brought to."""
    images_per_class: int
    """With folders or voc2012: images of each class at most."""
    name: str
    """With folders or voc2012: folder below results/ to write into."""
    tests: str
    """Test examples to explain: misclassified, reliable, spread, or indices with commas."""
    num_test: int
    """How many test examples, where a rule picks them."""
    num_train: int
    """Most helpful training examples of each."""
    chosen_by: str
    """Score that picks them: a scored method's short name, or gradients (Grad-Cos, or Grad-Dot for the other maps)."""
    score: str
    """Score whose maps are taken: grad_cos, grad_dot or if (Gauss-Newton influence)."""
    damping: float
    """Number added to the diagonal of the curvature of if."""
    smoothing_copies: int
    """Noisy copies of the training image that a map averages over; 0 for the image itself."""
    smoothing_deviation: float
    """Standard deviation of their noise, as a share of the range of the image's values."""
    channel_reduction: str
    """How the channels of a map become one: largest, sum, or norm (of absolute maps)."""
    absolute: bool
    """Draw absolute maps; --no-absolute draws signed ones, red where a larger pixel value makes the example more helpful."""
    num_checkpoints: int
    """A seed's map and score are the mean over this many of its last checkpoints."""
