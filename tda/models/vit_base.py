"""Pre-trained base models: loaded by hub name or from a local folder, checked, frozen, and known by a hash of their weights."""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tda.models.attention import ATTENTION, register_attention
from tda.system.errors import UserError, first_sentence

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedModel


@dataclass(frozen=True, eq=False)
class Base:
    """A frozen base model.

    network: the transformers model, classifier included, in evaluation mode; processor: its image processor; sha256: of its
    weights without the classifier, whatever their names; classifier: the name of the classifier in the network.
    """

    name: str
    network: "PreTrainedModel"
    processor: "BaseImageProcessor"
    sha256: str
    classifier: str
    embeds_into_tokens: bool

    @property
    def embeddings(self) -> nn.Module:
        """The module that makes tokens of pixel values."""
        return self.network.base_model.embeddings


def load_base(name: str) -> Base:
    """Load a base model, once per process; `name` is a hub name or a folder written by save_pretrained.

    Raises UserError if it is neither cached nor reachable, incomplete, or no image classifier with a linear head.
    """
    folder = Path(name)
    return _loaded(name, max(path.stat().st_mtime_ns for path in folder.iterdir()) if folder.is_dir() else 0)


def silence_transformers() -> None:
    """No notices and progress bars of the library; what goes wrong becomes an error here."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def pixel_values(base: Base, images: Tensor) -> Tensor:
    """Images (n, c, h, w) in [0, 1], grey or coloured, as the base's own processor makes inputs: (n, channels, size, size).

    Raises UserError if the base does not take images of the size that its processor makes.
    """
    channels = base.network.config.num_channels
    if images.shape[1] != channels:
        images = images.expand(-1, channels, -1, -1) if channels == 3 else images.mean(dim=1, keepdim=True)
    # The processor takes bytes; scaling back is exact, for the images were bytes before they were normalised.
    as_bytes = list((images * 255).round().to(torch.uint8))
    found = base.processor(as_bytes, return_tensors="pt", input_data_format="channels_first")["pixel_values"]
    size = base.network.config.image_size
    expected = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if tuple(found.shape[1:]) != (channels, *expected):
        raise UserError(
            f"the image processor of base {base.name} makes images of {'x'.join(map(str, found.shape[1:]))}, but the model "
            f"takes {channels}x{expected[0]}x{expected[1]}; mend its preprocessor_config.json or choose another base"
        )
    return found


def normalisation(base: Base) -> tuple[list[float], list[float]]:
    """Mean and std, a channel each, that the base's own processor normalises images in [0, 1] with."""
    channels = base.network.config.num_channels
    if not getattr(base.processor, "do_normalize", True):
        return [0.0] * channels, [1.0] * channels
    return list(base.processor.image_mean), list(base.processor.image_std)


@lru_cache(maxsize=4)
def _loaded(name: str, changed: int) -> Base:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    silence_transformers()
    register_attention()
    local = Path(name).is_dir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processor = explained(name, local, lambda: AutoImageProcessor.from_pretrained(name, local_files_only=local))
        network, report = explained(
            name,
            local,
            lambda: AutoModelForImageClassification.from_pretrained(
                name,
                local_files_only=local,
                attn_implementation=ATTENTION,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            ),
        )
    classifier = _classifier_name(name, network)
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(classifier))
    if missing:
        raise UserError(f"base {name} lacks the weights {missing[0]}; save it again by save_pretrained, or choose another base")
    network.eval().requires_grad_(False)
    return Base(name, network, processor, _hash(network, classifier), classifier, _embeds_into_tokens(network))


def explained(name: str, local: bool, load: Callable[[], object]) -> object:
    """What `load` returns; whatever transformers and the hub's client raise becomes a UserError."""
    try:
        return load()
    except Exception as error:  # they raise OSError, ValueError, KeyError, RuntimeError and errors of their own
        if local:
            raise UserError(
                f"base {name} cannot be loaded as an image classifier: {first_sentence(error)}; give a folder that "
                f"save_pretrained of a model and of its image processor wrote"
            ) from error
        raise UserError(
            f"base {name} is neither a local folder nor cached nor reachable on the hub: {first_sentence(error)}; run once "
            f"with a network, give --base a folder that save_pretrained wrote, or leave --base out"
        ) from error


def _classifier_name(name: str, network: nn.Module) -> str:
    found = [key for key, module in network.named_modules() if isinstance(module, nn.Linear) and key.startswith("classifier")]
    if len(found) != 1:
        raise UserError(f"base {name} has no linear layer named classifier to be replaced; choose a ViT or DeiT classifier")
    return found[0]


def _hash(network: nn.Module, classifier: str) -> str:
    """SHA-256 over the weights' own hashes in sorted order, since transformers renames weights from version to version."""
    hashes = []
    for key, tensor in network.state_dict().items():
        if not key.startswith(classifier):
            content = tensor.detach().cpu().contiguous().numpy()
            hashes.append(hashlib.sha256(f"{tuple(tensor.shape)}".encode() + content.tobytes()).hexdigest())
    return hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()


def _embeds_into_tokens(network: "PreTrainedModel") -> bool:
    """Whether the base's embeddings are a module that gives (n, tokens, width) and nothing else."""
    embeddings = getattr(network.base_model, "embeddings", None)
    if embeddings is None:
        return False
    size = network.config.image_size
    height, width = size if isinstance(size, list | tuple) else (size, size)
    with torch.no_grad():
        tokens = embeddings(torch.zeros(1, network.config.num_channels, height, width))
    return isinstance(tokens, Tensor) and tokens.dim() == 3
