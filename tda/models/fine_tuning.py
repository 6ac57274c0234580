"""How members are fine-tuned from a pre-trained base model: by low-rank adapters, or by training its last layers."""

from dataclasses import asdict, dataclass

from tda.system.errors import UserError

EMBEDDED_BASE = "embedded"
"""Name of the small base model that the project pre-trains itself, where no hub can be reached."""
PRETRAINED_BASE = "pretrained"
"""Stands for the weights that a family of pre-trained image models usually starts from."""
RANDOM_BASE = "random"
"""Name of a base whose weights are drawn, the same for everybody."""

PACKAGED_BASE = "packaged"
"""Name of the encoder of texts that a package brings along."""

PACKAGED_LANGUAGE_BASE = "smollm2"
"""Name of the language model that a package brings along."""

TEXT_PARTS = ("all", "upper", "lora")
TRAINED_PARTS = ("head", "upper", "all")
PAIR_PARTS = ("projections", "all")
SMALL_BASE = "small"
"""Name of the towers that are drawn, not pre-trained."""
GRID = 32
"""Pre-trained image models halve their images five times."""


@dataclass(frozen=True)
class FineTuning:
    """What is chosen once for an experiment, and written into each of its checkpoints; base: name of the base model."""

    base: str

    def as_dict(self) -> dict:
        """Plain values for metadata."""
        return asdict(self)


@dataclass(frozen=True)
class AdapterTuning(FineTuning):
    """Low-rank adapters (Hu et al., ICLR 2022) in a vision transformer.

    base: hub name or local folder of the base model, or EMBEDDED_BASE; rank, alpha, dropout: of the adapters, whose output is
    scaled by alpha / rank; random_crop, mixed_precision: as in TrainingPlan.
    """

    base: str = EMBEDDED_BASE
    rank: int = 16
    alpha: int = 16
    dropout: float = 0.1
    random_crop: bool = False
    mixed_precision: bool = False


@dataclass(frozen=True)
class LayerTuning(FineTuning):
    """Training a convolutional network's classifier and perhaps what stands before it, the rest frozen.

    base: as the family's loader of weights takes it. trained: "head", a new classifier alone; "upper", the last stage with it;
    "all". image_size: side in pixels that images are brought to, a multiple of 32. Raises UserError for others.
    """

    base: str = PRETRAINED_BASE
    trained: str = "head"
    image_size: int = 224

    def __post_init__(self) -> None:
        if self.trained not in TRAINED_PARTS:
            raise UserError(f"--trained is one of {', '.join(TRAINED_PARTS)}, not {self.trained!r}")
        if self.image_size < GRID or self.image_size % GRID:
            raise UserError(f"--image_size is a multiple of {GRID}, such as 128 or 224, not {self.image_size}")


@dataclass(frozen=True)
class TextTuning(FineTuning):
    """Training a classifier of texts from a pre-trained encoder.

    base: PACKAGED_BASE, a folder or a hub name. trained: "all"; "upper", the upper layers with the classifier; or "lora",
    low-rank adapters (Hu et al., ICLR 2022) with the classifier. upper_layers: how many layers are trained or adapted; 0: all.
    rank, alpha: of the adapters, whose output is scaled by alpha / rank. dropout: share of a layer's outputs that a training
    step drops. Raises UserError for others.
    """

    base: str = PACKAGED_BASE
    trained: str = "upper"
    upper_layers: int = 2
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.trained not in TEXT_PARTS:
            raise UserError(f"--trained is one of {', '.join(TEXT_PARTS)}, not {self.trained!r}")
        if self.upper_layers < 0 or (self.trained == "upper" and self.upper_layers == 0):
            least = "1 or more, or --trained all" if self.trained == "upper" else "0, for every layer, or more"
            raise UserError(f"--upper_layers {self.upper_layers} is too small; choose {least}")
        if self.rank < 1:
            raise UserError(f"the rank of adapters must be 1 or more, not {self.rank}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"--dropout must be at least 0 and below 1, not {self.dropout}")


@dataclass(frozen=True)
class LanguageTuning(FineTuning):
    """Low-rank adapters (Hu et al., ICLR 2022) in all layers of a pre-trained language model.

    base: PACKAGED_LANGUAGE_BASE, a folder or a hub name. rank, alpha: of the adapters, whose output is scaled by alpha / rank.
    Raises UserError for a rank below 1.
    """

    base: str = PACKAGED_LANGUAGE_BASE
    rank: int = 8
    alpha: int = 16

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UserError(f"the rank of adapters must be 1 or more, not {self.rank}")


@dataclass(frozen=True)
class PairTuning(FineTuning):
    """Training a contrastive model of images with texts.

    base: PACKAGED_BASE, SMALL_BASE, a folder or hub name of a CLIP model of transformers, or one of open_clip. trained:
    "projections", above frozen towers; or "all", the towers too. dimension: of new projections; CLIP models have their own.
    image_size: side in pixels that packaged towers take images at, a multiple of 32. The scale of similarities is always
    trained. Raises UserError for others, and for frozen towers that are drawn.
    """

    base: str = PACKAGED_BASE
    trained: str = "projections"
    dimension: int = 128
    image_size: int = 128

    def __post_init__(self) -> None:
        if self.trained not in PAIR_PARTS:
            raise UserError(f"--trained is one of {', '.join(PAIR_PARTS)}, not {self.trained!r}")
        if self.base == SMALL_BASE and self.trained != "all":
            raise UserError(
                f"--base {SMALL_BASE} is not pre-trained, so that its towers cannot stay as they are; give --trained all"
            )
        if self.dimension < 2:
            raise UserError(f"--dimension {self.dimension} is too small; choose 2 or more")
        if self.image_size < GRID or self.image_size % GRID:
            raise UserError(f"--image_size is a multiple of {GRID}, such as 128 or 224, not {self.image_size}")
