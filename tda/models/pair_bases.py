"""Towers of images and texts: from two packages, of a CLIP model of transformers or open_clip, or new ones."""

import hashlib
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from tda.data.kinds import ImageTextKind
from tda.data.packaged_encoder import PACKAGED
from tda.data.task_entry import Task
from tda.data.tokenizers import Vocabulary, tokenizer_named, vocabulary_hash
from tda.models.attention import ATTENTION, register_attention
from tda.models.contrastive import Comparison
from tda.models.efficientnet_lite0 import PACKAGE, efficientnet_lite0_base
from tda.models.fine_tuning import SMALL_BASE
from tda.models.layer_tuning import Preparation
from tda.models.text_bases import encoder_named
from tda.models.vit_base import silence_transformers
from tda.system.errors import UserError, first_sentence, in_one_line

SMALL = SMALL_BASE
"""A small vision transformer and a small transformer of texts, drawn from the member's seed."""
OPEN_CLIP = "open_clip:"
"""Begins the name of a model of open_clip: open_clip:<architecture>, and :<tag or file> of its weights."""

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_SMALL = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
_SMALL_PATCHES = 7
"""Patches along a side of an image."""


@dataclass(frozen=True, eq=False)
class PairBase:
    """Two towers, in evaluation mode and frozen.

    image: pixels of the task (n, c, h, w) by the task's name for them to (n, widths[0]); text: tokens to (n, widths[1]);
    projections: of the base itself, or None where new ones are drawn; scale: what similarities are multiplied with, or None for
    the usual first one; sha256: of all weights; is_new: whether they are drawn anew for every member.
    """

    name: str
    image: nn.Module
    text: nn.Module
    widths: tuple[int, int]
    projections: tuple[nn.Module, nn.Module] | None
    scale: float | None
    sha256: str
    is_new: bool = False

    def comparison(self) -> Comparison:
        """A new module that compares pairs, at the base's own scale."""
        return Comparison() if self.scale is None else Comparison(self.scale)


class ImageTower(nn.Module):
    """A task's normalised images, prepared, through a network that gives (n, width)."""

    def __init__(self, preparation: nn.Module, network: nn.Module, pixels: str) -> None:
        super().__init__()
        self.preparation, self.network, self.pixels = preparation, network, pixels

    def forward(self, **given: Tensor) -> Tensor:
        """Representations of the images."""
        found = self.network(self.preparation(given[self.pixels]))
        return found if isinstance(found, Tensor) else found.pooler_output


class MeanOfTokens(nn.Module):
    """An encoder's vectors of a text's tokens, averaged over those that count."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(n, width)."""
        counted = attention_mask[..., None].to(next(self.encoder.parameters()))
        vectors = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return (vectors * counted).sum(dim=1) / counted.sum(dim=1)


class PooledText(nn.Module):
    """The text model of a CLIPModel: its vector of a text's end."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(n, width)."""
        return self.network(input_ids=input_ids, attention_mask=attention_mask).pooler_output


class OpenClipText(nn.Module):
    """The text part of a model of open_clip, which needs no mask: it reads up to a text's end."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(n, width)."""
        return self.network.encode_text(input_ids)


def pair_base(name: str, task: Task, image_size: int) -> PairBase:
    """The base of this name for a task's pairs, loaded once per process.

    name: PACKAGED, SMALL, a folder that save_pretrained wrote or a hub name of a CLIPModel, or one that begins with OPEN_CLIP.
    image_size: to which packaged towers bring images; CLIP models have their own. Raises UserError for a task without images
    and texts, or a base that cannot be had or reads other tokens.
    """
    if not isinstance(task.kind, ImageTextKind) or task.kind.text.vocabulary is None:
        raise UserError(f"task {task.name} has no images with texts; choose one such as flickr8k, or another --model")
    folder = Path(name)
    changed = max((path.stat().st_mtime_ns for path in folder.iterdir()), default=0) if folder.is_dir() else 0
    return _loaded(name, task, image_size, changed)


@lru_cache(maxsize=4)
def _loaded(name: str, task: Task, image_size: int, changed: int) -> PairBase:
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        if name == PACKAGED:
            base = _packaged(task, image_size)
        elif name == SMALL:
            base = _of_clip(SMALL, new_clip(task), task.kind, _CLIP_MEAN, _CLIP_STD, is_new=True)
        elif name.startswith(OPEN_CLIP):
            base = _of_open_clip(name, task)
        else:
            base = _of_transformers(name, task)
    for tower in (base.image, base.text, *(base.projections or ())):
        tower.eval().requires_grad_(False)
    return base


def _packaged(task: Task, image_size: int) -> PairBase:
    """EfficientNet-Lite0 and the packaged encoder of sentences, each trained without the other; new projections."""
    vision, encoder = efficientnet_lite0_base(PACKAGE), encoder_named(PACKAGED)
    if vocabulary_hash(tokenizer_named(PACKAGED)) != task.kind.text.vocabulary().sha256:
        raise _other_tokens(PACKAGED, task)
    preparation = Preparation(task.kind.image, vision.mean, vision.std, image_size)
    image = ImageTower(preparation, vision.stages, task.kind.pixels)
    widths = (vision.width, encoder.config.hidden_size)
    return PairBase(PACKAGED, image, MeanOfTokens(encoder), widths, None, None, _hash(image, encoder))


def new_clip(task: Task) -> nn.Module:
    """A CLIPModel of transformers with small towers for the task's images and texts, from torch's global generator."""
    from transformers import CLIPConfig, CLIPModel

    kind, vocabulary = task.kind, task.kind.text.vocabulary()
    end = kind.text.encode(["a"])
    last = int(end["input_ids"][0][end["attention_mask"][0] > 0][-1])
    text = _SMALL | {"vocab_size": vocabulary.size, "max_position_embeddings": vocabulary.length, "eos_token_id": last}
    text |= {"bos_token_id": None, "pad_token_id": vocabulary.padding}
    patch = max(1, kind.image.size // _SMALL_PATCHES)
    vision = _SMALL | {"image_size": patch * (kind.image.size // patch), "patch_size": patch, "num_channels": 3}
    register_attention()
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=_SMALL["hidden_size"])
    return CLIPModel._from_config(config, attn_implementation=ATTENTION).eval()


def _of_transformers(name: str, task: Task) -> PairBase:
    from transformers import CLIPModel

    silence_transformers()
    register_attention()
    local = Path(name).is_dir()
    try:
        load = CLIPModel.from_pretrained
        options = {"attn_implementation": ATTENTION, "dtype": torch.float32, "output_loading_info": True}
        network, report = load(name, local_files_only=local, **options)
    except Exception as error:  # transformers and the hub's client raise OSError, ValueError, KeyError and their own
        reason = first_sentence(error)
        mend = "give a folder that save_pretrained wrote" if local else f"run once with a network, or give --base {PACKAGED}"
        raise UserError(f"base {name} cannot be loaded as a CLIP model: {reason}; {mend}") from error
    if lacking := sorted(report["missing_keys"]):
        raise UserError(f"base {name} lacks the weights {lacking[0]}; save it again by save_pretrained, or choose another base")
    vocabulary = task.kind.text.vocabulary()
    _check_tokens(name, task, network.config.text_config.vocab_size, network.config.text_config.max_position_embeddings)
    has_tokenizer = Path(name, "tokenizer.json").is_file() or not local
    if has_tokenizer and vocabulary_hash(tokenizer_named(name)) != vocabulary.sha256:
        raise _other_tokens(name, task)
    return _of_clip(name, network, task.kind, *_normalisation(name, local))


def _of_clip(name: str, network: nn.Module, kind: ImageTextKind, mean: tuple, std: tuple, is_new: bool = False) -> PairBase:
    size = network.config.vision_config.image_size
    image = ImageTower(Preparation(kind.image, mean, std, size), network.vision_model, kind.pixels)
    projections = (network.visual_projection, network.text_projection)
    widths = tuple(projection.in_features for projection in projections)
    scale, identity = float(network.logit_scale.exp()), "drawn" if is_new else _hash(image, network)
    return PairBase(name, image, PooledText(network.text_model), widths, projections, scale, identity, is_new)


def _normalisation(name: str, local: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What the base's images are normalised by, from its own processor where it has one."""
    if local and not Path(name, "preprocessor_config.json").is_file():
        return _CLIP_MEAN, _CLIP_STD
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(name, local_files_only=local)
    except Exception as error:  # as above
        reason = in_one_line(error)
        raise UserError(f"the image processor of base {name} cannot be loaded: {reason}; save it beside the model") from error
    return tuple(processor.image_mean), tuple(processor.image_std)


def _of_open_clip(name: str, task: Task) -> PairBase:
    try:
        import open_clip
    except ImportError as error:
        raise UserError(f"base {name} needs the package open_clip_torch; install it, or choose another --base") from error
    architecture, _, weights = name.removeprefix(OPEN_CLIP).partition(":")
    try:
        network = open_clip.create_model(architecture, pretrained=weights or None).eval()
    except Exception as error:  # the package and the hub's client raise RuntimeError, OSError and their own
        reason = in_one_line(error)
        known = "open_clip.list_pretrained() names architectures and tags of weights"
        raise UserError(f"base {name} cannot be loaded by open_clip: {reason}; {known}") from error
    return open_clip_base(name, network, task)


def open_clip_base(name: str, network: nn.Module, task: Task) -> PairBase:
    """The base that a model of open_clip is; its towers project, so that the projections above begin as identities.

    Raises UserError for a model of other parts, and for tokens that it does not take.
    """
    from copy import deepcopy

    if not all(hasattr(network, part) for part in ("visual", "vocab_size", "context_length", "logit_scale")):
        raise UserError(f"base {name} has other parts than a CLIP model; choose another architecture of open_clip")
    _check_tokens(name, task, network.vocab_size, network.context_length)
    vision, text = network.visual, deepcopy(network)
    text.visual = nn.Identity()
    size = vision.image_size[0] if isinstance(vision.image_size, tuple) else vision.image_size
    mean, std = (getattr(vision, f"image_{part}", None) or default for part, default in _OPEN_CLIP_NORMALISATION)
    preparation = Preparation(task.kind.image, tuple(mean), tuple(std), size)
    image = ImageTower(preparation, vision, task.kind.pixels)
    with torch.no_grad():
        width = network.encode_text(torch.zeros(1, network.context_length, dtype=torch.int64)).shape[1]
    scale = float(network.logit_scale.detach().exp())
    projections = tuple(_identity(width) for _ in range(2))
    return PairBase(name, image, OpenClipText(text), (width, width), projections, scale, _hash(image, network))


_OPEN_CLIP_NORMALISATION = (("mean", _CLIP_MEAN), ("std", _CLIP_STD))


def _identity(width: int) -> nn.Linear:
    layer = nn.Linear(width, width, bias=False)
    layer.weight.data = torch.eye(width)
    return layer


def _check_tokens(name: str, task: Task, size: int, length: int) -> None:
    """Raise UserError unless a base knows as many tokens, and reads as many, as the task's texts have."""
    vocabulary: Vocabulary = task.kind.text.vocabulary()
    if size < vocabulary.size or length < vocabulary.length:
        raise UserError(
            f"base {name} reads {length} of {size} tokens, and task {task.name} writes {vocabulary.length} of "
            f"{vocabulary.size}; give the task's entry its tokenizer and length, or choose another --base"
        )


def _other_tokens(name: str, task: Task) -> UserError:
    return UserError(
        f"base {name} reads other tokens than those of task {task.name}; give the task's entry tokenizer={name!r}, or choose "
        "another --base"
    )


def _hash(*modules: nn.Module) -> str:
    """SHA-256 of all weights, and of what images are normalised by, by name."""
    digest = hashlib.sha256()
    for module in modules:
        for key, tensor in sorted(module.state_dict().items()):
            digest.update(f"{key} {tuple(tensor.shape)}".encode() + tensor.detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
