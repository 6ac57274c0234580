"""Tokenizers of texts: of a pre-trained model, or trained on a task's own texts; token ids with masks of one length.

All go through the package `tokenizers`; a tokenizer is a file tokenizer.json, in a package, a folder, on the hub, or trained
here once and kept in data/tokenizers/.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from tda.data.packaged_encoder import PACKAGED, packaged_folder
from tda.data.packaged_language_model import SMOLLM2, gguf_tokenizer, smollm2_file
from tda.experiments.folders import data_folder
from tda.system.errors import UserError, in_one_line
from tda.system.files import reading, sha256, write_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END = "<|end|>"
PADDING = "<|padding|>"
FEWEST = 258
"""Tokens of a trained tokenizer at least: every byte, END and PADDING."""
_PADDINGS = ("[PAD]", "<pad>", PADDING, "<|endoftext|>", "</s>")
"""Tokens that may fill texts up, the first that a tokenizer has; masks leave them out, so that the end of a text will do."""

Text = str | tuple[str, str]


@dataclass(frozen=True)
class Vocabulary:
    """What a model must know of the tokens that it reads: their number, the length of a text, and special ids.

    answers: whether a text comes with an answer, which a decoder writes.
    """

    size: int
    length: int
    padding: int
    end: int | None
    sha256: str
    answers: bool = False


@dataclass(frozen=True)
class TextTokens:
    """Texts, or pairs of texts, as ids and masks (n, length) by the names of the models' arguments.

    load: the tokenizer, with its special tokens; it is called when a text is first read.
    """

    load: Callable[[], "Tokenizer"]
    length: int

    def encode(self, texts: Sequence[Text]) -> dict[str, Tensor]:
        """input_ids, attention_mask and, of pairs, token_type_ids, (n, length) int64, cut and padded at the end."""
        tokenizer = self._at_length()
        found = tokenizer.encode_batch(list(texts))
        columns = {"input_ids": [each.ids for each in found], "attention_mask": [each.attention_mask for each in found]}
        if texts and not isinstance(texts[0], str):
            columns["token_type_ids"] = [each.type_ids for each in found]
        return {name: torch.tensor(rows) for name, rows in columns.items()}

    def within(self, texts: Sequence[str], places: Sequence[tuple[int, int]]) -> Tensor:
        """Which tokens (n, length) bool stand for a letter of a place in each text: its first character, and the one behind it.

        Special tokens and what was cut off are not among them.
        """
        found = self._at_length().encode_batch(list(texts))
        rows = [
            [start < last and end > first for start, end in each.offsets]
            for each, (first, last) in zip(found, places, strict=True)
        ]
        return torch.tensor(rows, dtype=torch.bool).reshape(len(found), self.length)

    def decode(self, tokens: dict[str, Tensor]) -> str:
        """The text of one example without special tokens; the two of a pair on lines of their own."""
        counted = tokens["attention_mask"] > 0
        ids, kinds = tokens["input_ids"][counted], tokens.get("token_type_ids")
        parts = [ids] if kinds is None else [ids[kinds[counted] == kind] for kind in (0, 1)]
        return "\n".join(self.load().decode(part.tolist()) for part in parts)

    def vocabulary(self) -> Vocabulary:
        """What models must know of it."""
        tokenizer = self.load()
        padding, end = _padding_of(tokenizer)[0], tokenizer.token_to_id(END)
        return Vocabulary(tokenizer.get_vocab_size(), self.length, padding, end, vocabulary_hash(tokenizer))

    def _at_length(self) -> "Tokenizer":
        tokenizer = self.load()
        padding, name = _padding_of(tokenizer)
        tokenizer.enable_truncation(self.length)
        tokenizer.enable_padding(length=self.length, pad_id=padding, pad_token=name)
        return tokenizer


@dataclass(frozen=True)
class AnsweredTokens:
    """Pairs (text, answer) for models that read the one and write the other, such as T5.

    length: of the text, answer_length: of the answer with the token that begins it.
    """

    load: Callable[[], "Tokenizer"]
    length: int
    answer_length: int

    def encode(self, texts: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
        """input_ids, attention_mask (n, length); decoder_input_ids, decoder_attention_mask (n, answer_length).

        What the decoder reads begins with a padding token, of which it foretells the answer's first.
        """
        read, written = zip(*texts, strict=True)
        source, tokenizer = TextTokens(self.load, self.length).encode(read), self.load()
        # That token takes the place of the one that begins every text, where the tokenizer has such a one, as T5's has not.
        begins = tokenizer.encode("a").special_tokens_mask[0] == 1
        answer = TextTokens(self.load, self.answer_length - (not begins)).encode(written)
        start = {"input_ids": _padding_of(tokenizer)[0], "attention_mask": 1}
        rest = {name: part[:, int(begins) :] for name, part in answer.items()}
        return source | {f"decoder_{name}": functional.pad(rest[name], (1, 0), value=start[name]) for name in start}

    def decode(self, tokens: dict[str, Tensor]) -> str:
        """The text and the answer, on lines of their own."""
        sides = [{name: tokens[f"{side}{name}"] for name in ("input_ids", "attention_mask")} for side in ("", "decoder_")]
        return "\n".join(TextTokens(self.load, self.length).decode(side) for side in sides)

    def vocabulary(self) -> Vocabulary:
        """What models must know of it."""
        return replace(TextTokens(self.load, self.length).vocabulary(), answers=True)


@functools.cache
def tokenizer_named(name: str) -> "Tokenizer":
    """A tokenizer by the name of a folder that holds tokenizer.json, by hub name, or that of a packaged model.

    Raises UserError if it cannot be had, or says no token for padding.
    """
    from tokenizers import Tokenizer

    if name == SMOLLM2:
        return gguf_tokenizer(smollm2_file())
    folder = packaged_folder() if name == PACKAGED else Path(name)
    try:
        if folder.is_dir():
            with reading(folder / "tokenizer.json"):
                return Tokenizer.from_file(str(folder / "tokenizer.json"))
        return Tokenizer.from_pretrained(name)
    except UserError:
        raise
    except Exception as error:  # the library raises plain exceptions, and those of the hub's client
        reason = in_one_line(error)
        raise UserError(
            f"tokenizer {name} cannot be read: {reason}; give a folder that holds tokenizer.json, or run once with a network"
        ) from error


def vocabulary_hash(tokenizer: "Tokenizer") -> str:
    """SHA-256 of the tokens and their numbers."""
    numbers = tokenizer.get_vocab()
    return sha256(*(f"{numbers[token]} {token}\n".encode() for token in sorted(numbers)))


def trained_tokenizer(name: str, texts: Callable[[], Sequence[str]], size: int) -> "Tokenizer":
    """A byte-level BPE tokenizer with `size` tokens at most, trained on the texts once and kept in data/tokenizers/.

    Every text begins and ends with END. A file trained on other texts is not used.
    """
    return _trained(name, texts, size, data_folder())


@functools.cache
def _trained(name: str, texts: Callable[[], Sequence[str]], size: int, folder: Path) -> "Tokenizer":
    from tokenizers import Tokenizer

    found = list(texts())
    content = sha256(*(text.encode() + b"\n" for text in found))[:16]
    path = folder / "tokenizers" / f"{name}_{size}_{content}.json"
    if not path.exists():
        write_text(path, _newly_trained(found, size).to_str())
    with reading(path):
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain exceptions
            raise UserError(f"{path} is damaged; delete it, and it is trained again") from error


def _newly_trained(texts: Sequence[str], size: int) -> "Tokenizer":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[PADDING, END], initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    number = tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{END} $A {END}", special_tokens=[(END, number)])
    return tokenizer


def _padding_of(tokenizer: "Tokenizer") -> tuple[int, str]:
    """Id and name of the token that fills texts up."""
    if tokenizer.padding is not None:
        return tokenizer.padding["pad_id"], tokenizer.padding["pad_token"]
    for name in _PADDINGS:
        if (number := tokenizer.token_to_id(name)) is not None:
            return number, name
    raise UserError(f"the tokenizer says no token for padding; its tokenizer.json needs one, such as {_PADDINGS[0]}")
