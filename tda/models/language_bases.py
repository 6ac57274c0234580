"""Pre-trained language models as fine-tuning takes them: by hub name, from a folder, or the one of a package."""

import contextlib
import hashlib
import io
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from tda.data.packaged_language_model import SMOLLM2, smollm2_file
from tda.data.task_entry import Task
from tda.data.tokenizers import tokenizer_named, vocabulary_hash
from tda.models.attention import ATTENTION, register_attention
from tda.models.language_models import exact_norms, vocabulary_of
from tda.models.vit_base import silence_transformers
from tda.system.errors import UserError, first_sentence

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class LanguageBase:
    """A frozen language model of transformers, in float32 and evaluation mode; sha256: of its weights."""

    name: str
    network: "PreTrainedModel"
    sha256: str


def language_base(name: str, task: Task, answers: bool = False) -> LanguageBase:
    """The base of this name for a task's texts, loaded once per process.

    name: SMOLLM2, a folder written by save_pretrained, or a hub name. answers: whether it is to read a text and write an
    answer, as T5 does, instead of going on with a text. Raises UserError if it cannot be had, or reads other tokens than the
    task's.
    """
    if answers and name == SMOLLM2:
        raise UserError(f"base {name} does not answer texts; give --base a T5 or mT5, by the name of a folder or by hub name")
    folder = Path(name)
    changed = max((path.stat().st_mtime_ns for path in folder.iterdir()), default=0) if folder.is_dir() else 0
    base = _loaded(name, changed, answers)
    _check_tokens(base, task, answers)
    return base


@lru_cache(maxsize=2)
def _loaded(name: str, changed: int, answers: bool = False) -> LanguageBase:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    silence_transformers()
    register_attention()
    local, options = Path(name).is_dir(), {}
    place, kind = name, AutoModelForSeq2SeqLM if answers else AutoModelForCausalLM
    if name == SMOLLM2:
        path = smollm2_file()
        place, local, options = str(path.parent), True, {"gguf_file": path.name}
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            # The bar of a GGUF file is the package's own, which no setting of transformers turns off.
            with contextlib.redirect_stderr(io.StringIO()):
                network = kind.from_pretrained(
                    place, local_files_only=local, attn_implementation=ATTENTION, dtype=torch.float32, **options
                )
        except Exception as error:  # transformers and the hub's client raise OSError, ValueError, KeyError and their own
            reason = first_sentence(error)
            other = "a folder that save_pretrained wrote" if answers else SMOLLM2
            mend = "give a folder that save_pretrained wrote" if local else f"run once with a network, or give --base {other}"
            what = "a model that answers texts" if answers else "a language model"
            raise UserError(f"base {name} cannot be loaded as {what}: {reason}; {mend}") from error
    exact_norms(network)
    network.config.use_cache = False
    network.eval().requires_grad_(False)
    return LanguageBase(name, network, _hash(network))


def _hash(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=8)
def _check_tokens(base: LanguageBase, task: Task, answers: bool) -> None:
    """Raise UserError unless the base reads the tokens, and as many of them, as the task's kind writes."""
    vocabulary, config = vocabulary_of(task, answers), base.network.config
    mend = f"give the task's entry tokenizer={base.name!r}, or choose another --base or --task"
    has_tokenizer = base.name == SMOLLM2 or not Path(base.name).is_dir() or Path(base.name, "tokenizer.json").is_file()
    if has_tokenizer and vocabulary_hash(tokenizer_named(base.name)) != vocabulary.sha256:
        raise UserError(f"base {base.name} reads other tokens than those of task {task.name}; {mend}")
    if config.vocab_size < vocabulary.size:
        raise UserError(
            f"base {base.name} knows {config.vocab_size} tokens, and task {task.name} has {vocabulary.size}; {mend}"
        )
    most = getattr(config, "max_position_embeddings", None)
    if most is not None and most < vocabulary.length:
        raise UserError(f"base {base.name} reads {most} tokens, fewer than the {vocabulary.length} of task {task.name}; {mend}")
