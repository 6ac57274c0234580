"""Constants and arguments of the step that trains an ensemble, from scratch or from a base model."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfSeeds


@dataclass(kw_only=True)
class Training(OfSeeds):
    """Which members to train."""

    experiment: str | None = None
    """Name of an experiment to continue, such as cnn_digits3_10pc, instead of the four below; it must have begun already."""
    early_epochs: tuple[int, ...]
    """Epochs to keep besides those that are scored, such as 1,2,5, for methods that follow the training."""


@dataclass(kw_only=True)
class AdapterTuning(Training):
    """The same for members that are fine-tuned from a base model by low-rank adapters."""

    base: str
    """Base: embedded, a folder that save_pretrained wrote, or a hub name; published: google/vit-base-patch16-224-in21k."""
    rank: int
    """Rank of the adapters on the attention's query and value projections."""
    alpha: int
    """The adapters' output is scaled by this over the rank."""
    dropout: float
    """Share of the adapters' inputs that a training step drops; scores are taken without."""
    random_crop: bool
    """Train on random crops, drawn anew for each step from the seed; scores always see whole images."""
    mixed_precision: bool
    """Fine-tune in bfloat16 where that is safe, for GPUs; scores are taken in float32."""


@dataclass(kw_only=True)
class LayerTuning(Training):
    """The same for convolutional networks of which the last layers, or all, are fine-tuned from pre-trained weights."""

    base: str
    """Base: pretrained (the family's usual weights), random, a hub name such as microsoft/resnet-18, or a saved folder."""
    trained: str
    """What is trained: head (a new classifier alone), upper (the last stage too) or all."""
    image_size: int
    """Side in pixels that images are brought to, a multiple of 32; published: 224, faster on a CPU: 128."""


@dataclass(kw_only=True)
class LanguageTraining(Training):
    """The same for language models: small ones from scratch, gpt and t5, or smollm2 and t5_lora by low-rank adapters."""

    base: str
    """Base of smollm2: smollm2 (req-pretrained.txt), a folder that save_pretrained wrote, or a hub name; of t5_lora one of the
    latter two; others have none.
    """
    rank: int
    """Rank of adapters on the attention's query and value projections; models trained from scratch have none."""
    alpha: int
    """The adapters' output is scaled by this over the rank."""


@dataclass(kw_only=True)
class TextTuning(Training):
    """The same for classifiers of texts that are fine-tuned from a pre-trained encoder."""

    base: str
    """Base: packaged (req-pretrained.txt), a folder that save_pretrained wrote, or a hub name such as bert-base-uncased."""
    trained: str
    """What is trained: all, upper (the upper layers and the classifier) or lora (low-rank adapters and the classifier)."""
    upper_layers: int
    """How many of the upper layers are trained or adapted, those below computed once; 0, for lora: every layer."""
    rank: int
    """Rank of lora's adapters on the attention's query and value projections."""
    alpha: int
    """The adapters' output is scaled by this over the rank."""
    dropout: float
    """Share of a layer's outputs that a training step drops; scores are taken without."""


@dataclass(kw_only=True)
class PairTuning(Training):
    """The same for contrastive models of images with texts."""

    base: str
    """Base: packaged (req-pretrained.txt), small (from scratch), a folder or hub name of a CLIPModel, or
    open_clip:ViT-B-32:tag.
    """
    trained: str
    """What is trained beside the scale of similarities: projections (above frozen towers, computed once) or all."""
    dimension: int
    """Dimension of new projections; CLIP models have their own."""
    image_size: int
    """Side in pixels that the packaged tower takes images at, a multiple of 32; CLIP models have their own."""
