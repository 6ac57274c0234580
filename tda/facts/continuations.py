"""Prompts and what a causal language model says next: greedy decoding, and the split that asks methods about a continuation."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tda.data.kinds import TextKind
from tda.data.splits import Split
from tda.data.task_entry import Task
from tda.gradients.objectives import NextToken
from tda.system.errors import UserError
from tda.system.inputs import call, device_of, mapped

_HALF = "\N{REPLACEMENT CHARACTER}"
"""What half a letter is decoded to."""

_WITHOUT_SPACES = ("THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "JAVANESE", "BALINESE")
"""Scripts that put no spaces between words, beside those of East Asia."""


@dataclass(frozen=True)
class Continued:
    """Tokens (T,) int64 of a prompt and its continuation, of which the last `count` are the continuation's."""

    tokens: tuple[int, ...]
    count: int


def check_causal(task: Task) -> TextKind:
    """The kind of a task of which a prompt can be continued; raises UserError for any other task."""
    kind = task.kind
    causal = isinstance(kind, TextKind) and kind.within is not None and isinstance(task.objective, NextToken)
    if not causal or kind.vocabulary is None:
        raise UserError(
            f"task {task.name} is of no causal language model, whose prompts can be continued; choose one of model gpt"
        )
    return kind


def prompt_tokens(kind: TextKind, prompt: str) -> tuple[int, ...]:
    """The prompt's tokens with what the tokenizer puts before them, without what it puts behind, and without spaces at the end,
    which belong to the next word's token.

    Raises UserError for a prompt without tokens, or one that fills the model's whole length.
    """
    length, prompt = kind.vocabulary().length, prompt.rstrip()
    inside = kind.within([prompt], [(0, len(prompt))])[0].nonzero().flatten()
    if not len(inside):
        raise UserError("--prompt has no letters that could be continued; give the beginning of a text")
    used = int(inside[-1]) + 1
    tokens = kind.encode([prompt])["input_ids"][0, :used].tolist()
    if used >= length or used < _uncut_count(kind, prompt):
        raise UserError(f"--prompt has {length} tokens or more, which leaves no room in the model's {length}; shorten it")
    return tuple(tokens)


def _uncut_count(kind: TextKind, prompt: str) -> int:
    """Tokens up to the prompt's last letter if none is cut off, else more than there are."""
    last = len(prompt.rstrip())
    found = kind.within([prompt], [(last - 1, last)])[0].nonzero().flatten()
    return int(found[-1]) + 1 if len(found) else kind.vocabulary().length + 1


def given_continuation(kind: TextKind, prompt: str, continuation: str) -> Continued:
    """The prompt with a given continuation, a space between them where two letters or digits would touch that spaces part.

    Raises UserError for a continuation without tokens, or if both together are too long for the model.
    """
    touching = _ends_words_by_spaces(prompt[-1:]) and _ends_words_by_spaces(continuation[:1])
    text = prompt + (" " if touching else "") + continuation
    inside = kind.within([text], [(len(prompt), len(text))])[0].nonzero().flatten()
    if not continuation.strip() or not len(inside):
        raise UserError("--continuation has no tokens to attribute; give a text that follows the prompt")
    used = int(inside[-1]) + 1
    if used < _uncut_count(kind, text):
        raise UserError(f"prompt and continuation have more tokens than the model's {kind.vocabulary().length}; shorten them")
    return Continued(tuple(kind.encode([text])["input_ids"][0, :used].tolist()), len(inside))


def _ends_words_by_spaces(letter: str) -> bool:
    """Whether it is a letter or digit of a script that puts spaces between words."""
    if not letter.isalnum():
        return False
    wide = unicodedata.east_asian_width(letter) in ("W", "F") and not unicodedata.name(letter, "").startswith("HANGUL")
    return not wide and unicodedata.name(letter, "").split(" ")[0] not in _WITHOUT_SPACES


def greedy(model: nn.Module, kind: TextKind, prompt: Sequence[int], most: int, device: torch.device) -> Continued:
    """What the model says next by taking the most probable token each time, until it ends the text, at most `most` tokens.

    The token that ends a text is no part of the continuation.
    """
    vocabulary = kind.vocabulary()
    said = getattr(getattr(model, "config", None), "eos_token_id", None)
    ends = {vocabulary.end, *(said if isinstance(said, list | tuple) else [said])} - {None}
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(min(most, vocabulary.length - len(prompt))):
            ids = torch.tensor([tokens], device=device)
            best = int(call(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})[0, -1].argmax())
            if best in ends:
                break
            tokens.append(best)
    return Continued(tuple(tokens), len(tokens) - len(prompt))


def token_texts(kind: TextKind, continued: Continued) -> list[str]:
    """The continuation's tokens as text, which joined give what it adds to the prompt's text.

    Of a letter that several tokens make, the last one holds it, and the others nothing.
    """
    total = len(continued.tokens)
    known, found = _text(kind, continued.tokens[: total - continued.count]), []
    for end in range(total - continued.count + 1, total + 1):
        text = _text(kind, continued.tokens[:end])
        is_half = text.endswith(_HALF) and end < total
        found.append("" if is_half else text[len(known) :])
        known = known if is_half else text
    return found


def _text(kind: TextKind, tokens: Sequence[int]) -> str:
    ids = torch.tensor(tokens, dtype=torch.int64)
    return kind.decode({"input_ids": ids, "attention_mask": torch.ones_like(ids)})


def asking_split(kind: TextKind, continued: Continued) -> Split:
    """The continuation as a test example, and each of its tokens as one more: 1 + count examples with the same inputs.

    Labels count the continuation's tokens alone, so that the first example's loss is the mean of the others'.
    """
    length, size = kind.vocabulary().length, len(continued.tokens)
    row = torch.full((length,), kind.vocabulary().padding, dtype=torch.int64)
    row[:size] = torch.tensor(continued.tokens)
    inputs = {"input_ids": row, "attention_mask": (torch.arange(length) < size).long()}
    first = size - continued.count
    places = torch.arange(length)
    counted = [(places >= first) & (places < size), *(places == place for place in range(first, size))]
    labels = torch.stack([row.masked_fill(~each, -100) for each in counted])
    repeated = mapped(inputs, lambda part: part.expand(len(labels), -1).clone())
    return Split(repeated, labels, torch.arange(len(labels)))


def log_probability(model: nn.Module, split: Split) -> Tensor:
    """Log-probability (T,) float64 in nats of each token of the continuation, given those before it; split: as asking_split."""
    with torch.no_grad():
        logits = call(model, mapped(split.inputs, lambda part: part[:1]))
    return -NextToken().loss(logits.double().expand(len(split) - 1, -1, -1), split.labels[1:].to(device_of(split.inputs)))
