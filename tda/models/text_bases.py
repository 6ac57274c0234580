"""Pre-trained classifiers of texts as fine-tuning takes them: by hub name, from a folder, or the encoder of a package."""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from tda.data.packaged_encoder import PACKAGED, packaged_folder
from tda.data.task_entry import Task
from tda.data.tokenizers import tokenizer_named, vocabulary_hash
from tda.models.attention import ATTENTION, register_attention
from tda.models.language_models import vocabulary_of
from tda.models.vit_base import silence_transformers
from tda.system.errors import UserError, first_sentence

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_HEADS = ("classifier", "pre_classifier", "score", "pooler")
"""What stands between the encoder's tokens and the logits, by its name; it may be new, the encoder may not."""


@dataclass(frozen=True, eq=False)
class TextBase:
    """A frozen sequence classifier of transformers.

    network: in evaluation mode; new: names of its modules without weights of their own, which a member draws; sha256: of the
    other weights.
    """

    name: str
    network: "PreTrainedModel"
    new: tuple[str, ...]
    sha256: str


def text_base(name: str, task: Task) -> TextBase:
    """The base of this name for a task's classes, loaded once per process.

    name: PACKAGED, a folder written by save_pretrained, or a hub name. Raises UserError if it cannot be had, lacks weights of
    its encoder, or reads other tokens than the task's.
    """
    base = _named(name, len(task.classes))
    _check_tokens(base, task)
    return base


def encoder_named(name: str) -> "PreTrainedModel":
    """The frozen encoder of this name alone, from tokens to last_hidden_state; raises UserError if it cannot be had."""
    return _named(name, num_logits=2).network.base_model


def _named(name: str, num_logits: int) -> TextBase:
    folder = packaged_folder() if name == PACKAGED else Path(name)
    changed = max(path.stat().st_mtime_ns for path in folder.iterdir()) if folder.is_dir() else 0
    return _loaded(name, str(folder) if folder.is_dir() else name, num_logits, changed)


@lru_cache(maxsize=4)
def _loaded(name: str, place: str, num_logits: int, changed: int) -> TextBase:
    from transformers import AutoModelForSequenceClassification

    silence_transformers()
    register_attention()
    local = Path(place).is_dir()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        load = AutoModelForSequenceClassification.from_pretrained
        network, report = _explained(
            name,
            local,
            lambda: load(
                place,
                local_files_only=local,
                attn_implementation=ATTENTION,
                dtype=torch.float32,
                num_labels=num_logits,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            ),
        )
    mismatched = [entry[0] if isinstance(entry, tuple) else entry for entry in report.get("mismatched_keys", ())]
    absent = sorted({*report["missing_keys"], *mismatched})
    lacking = [key for key in absent if not any(part in _HEADS for part in key.split("."))]
    if lacking:
        raise UserError(f"base {name} lacks the weights {lacking[0]}; save it again by save_pretrained, or choose another base")
    network.eval().requires_grad_(False)
    new = {key.rpartition(".")[0] for key in absent} | {_classifier_name(name, network)}
    return TextBase(name, network, tuple(sorted(new)), _hash(network, new))


def _explained(name: str, local: bool, load: Callable[[], object]) -> object:
    """What `load` returns; whatever transformers and the hub's client raise becomes a UserError."""
    try:
        return load()
    except Exception as error:  # they raise OSError, ValueError, KeyError, RuntimeError and errors of their own
        reason = first_sentence(error)
        if local:
            raise UserError(
                f"base {name} cannot be loaded as a classifier of texts: {reason}; give a folder that save_pretrained wrote"
            ) from error
        raise UserError(
            f"base {name} is neither a local folder nor cached nor reachable on the hub: {reason}; run once with a network, "
            f"give --base a folder that save_pretrained wrote, or --base {PACKAGED}"
        ) from error


def _classifier_name(name: str, network: nn.Module) -> str:
    """The last linear layer of the head, which gives the logits."""
    linear = [key for key, module in network.named_modules() if isinstance(module, nn.Linear) and key.split(".")[0] in _HEADS]
    if not linear:
        raise UserError(f"base {name} has no linear layer named {' or '.join(_HEADS[:3])}; choose another base")
    return linear[-1]


def _hash(network: nn.Module, new: set[str]) -> str:
    """SHA-256 of all weights but the new modules', by name."""
    digest = hashlib.sha256()
    for key, tensor in sorted(network.state_dict().items()):
        if key.rpartition(".")[0] not in new:
            digest.update(f"{key} {tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=8)
def _check_tokens(base: TextBase, task: Task) -> None:
    """Raise UserError unless the base reads the tokens, and as many of them, as the task's kind writes."""
    vocabulary, config = vocabulary_of(task, answers=False), base.network.config
    mend = f"give the task's entry tokenizer={base.name!r}, or choose another --base"
    if base.name == PACKAGED or Path(base.name, "tokenizer.json").is_file() or not Path(base.name).is_dir():
        if vocabulary_hash(tokenizer_named(base.name)) != vocabulary.sha256:
            raise UserError(f"base {base.name} reads other tokens than those of task {task.name}; {mend}")
    elif config.vocab_size < vocabulary.size:
        raise UserError(
            f"base {base.name} knows {config.vocab_size} tokens, and task {task.name} has {vocabulary.size}; {mend}"
        )
    most = getattr(config, "max_position_embeddings", None)
    if most is not None and most < vocabulary.length:
        raise UserError(f"base {base.name} reads {most} tokens, fewer than the {vocabulary.length} of task {task.name}; {mend}")
