"""Pre-trained causal language models as fine-tuning takes them: by hub name, from a folder, or the one of a package."""

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
from tda.models.language_models import replace_modules, vocabulary_of
from tda.models.vit_base import silence_transformers
from tda.system.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class LanguageBase:
    """A frozen causal language model of transformers, in float32 and evaluation mode; sha256: of its weights."""

    name: str
    network: "PreTrainedModel"
    sha256: str


def language_base(name: str, task: Task) -> LanguageBase:
    """The base of this name for a task's texts, loaded once per process.

    name: SMOLLM2, a folder written by save_pretrained, or a hub name. Raises UserError if it cannot be had, or reads other
    tokens than the task's.
    """
    folder = Path(name)
    changed = max((path.stat().st_mtime_ns for path in folder.iterdir()), default=0) if folder.is_dir() else 0
    base = _loaded(name, changed)
    _check_tokens(base, task)
    return base


@lru_cache(maxsize=2)
def _loaded(name: str, changed: int) -> LanguageBase:
    from transformers import AutoModelForCausalLM

    silence_transformers()
    register_attention()
    local, options = Path(name).is_dir(), {}
    place = name
    if name == SMOLLM2:
        path = smollm2_file()
        place, local, options = str(path.parent), True, {"gguf_file": path.name}
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            # The bar of a GGUF file is the package's own, which no setting of transformers turns off.
            with contextlib.redirect_stderr(io.StringIO()):
                network = AutoModelForCausalLM.from_pretrained(
                    place, local_files_only=local, attn_implementation=ATTENTION, dtype=torch.float32, **options
                )
        except Exception as error:  # transformers and the hub's client raise OSError, ValueError, KeyError and their own
            reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")[:200] or type(error).__name__
            mend = "give a folder that save_pretrained wrote" if local else f"run once with a network, or give --base {SMOLLM2}"
            raise UserError(f"base {name} cannot be loaded as a language model: {reason}; {mend}") from error
    exact_norms(network)
    network.config.use_cache = False
    network.eval().requires_grad_(False)
    return LanguageBase(name, network, _hash(network))


def exact_norms(network: nn.Module) -> None:
    """Put torch's own norms in the place of transformers', which compute in float32 whatever the model's precision."""

    def own(old: nn.Module) -> nn.Module:
        norm = nn.RMSNorm(len(old.weight), eps=old.variance_epsilon)
        norm.weight = old.weight
        return norm

    replace_modules(network, "LlamaRMSNorm", own)


def _hash(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=8)
def _check_tokens(base: LanguageBase, task: Task) -> None:
    """Raise UserError unless the base reads the tokens, and as many of them, as the task's kind writes."""
    vocabulary, config = vocabulary_of(task), base.network.config
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
