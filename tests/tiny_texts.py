"""Texts of a dozen words, tasks of them, and two models small enough for explicit matrices."""

import numpy as np
import torch
from torch import Tensor, nn

from tda.data.kinds import TextKind
from tda.data.pools import Pool
from tda.data.tasks import Task
from tda.gradients.objectives import NextToken

WORDS = "the a cat dog bird runs sleeps sings fast well here now not".split()
VOCABULARY = {"": 0} | {word: number for number, word in enumerate(WORDS, start=1)}
LENGTH = 6
_SUBJECTS = (("cat", "sleeps"), ("dog", "runs"), ("bird", "sings"))


def encode(texts: list[str]) -> dict[str, Tensor]:
    """Token ids and mask (n, LENGTH); a word that is not known is left out."""
    rows = [[VOCABULARY[word] for word in text.split() if word in VOCABULARY][:LENGTH] for text in texts]
    tokens = torch.tensor([row + [0] * (LENGTH - len(row)) for row in rows])
    return {"input_ids": tokens, "attention_mask": (tokens > 0).long()}


def decode(tokens: dict[str, Tensor]) -> str:
    """The words that the mask counts."""
    counted = tokens["input_ids"][tokens["attention_mask"] > 0]
    return " ".join(WORDS[number - 1] for number in counted.tolist())


def texts_of(part: str) -> Pool:
    """30 texts of each of three subjects, of three to six words, most of them about the subject of their label."""
    generator = np.random.default_rng(0 if part == "train" else 1)
    texts, labels = [], np.repeat(np.arange(3), 30)
    for label in labels:
        about = label if generator.random() < 0.8 else generator.integers(3)
        rest = generator.permutation(["fast", "well", "here", "now", "not"])[: generator.integers(0, 4)]
        texts.append(" ".join([generator.choice(["the", "a"]), *_SUBJECTS[about], *rest]))
    return Pool(np.array(texts), labels)


_SHARED = {
    "classes": (0, 1, 2),
    "class_names": ("cat", "dog", "bird"),
    "epochs": 6,
    "test_per_class": 5,
    "load": texts_of,
    "kind": TextKind(encode, decode),
}
CLASSES = Task(name="tiny_texts", title="texts about three animals", **_SHARED)
TOKENS = Task(name="tiny_language", title="the words of texts about three animals", **_SHARED, objective=NextToken())


class _Trunk(nn.Module):
    """Embedded tokens and places, one head of attention, and a layer norm: (n, LENGTH) -> (n, LENGTH, 6)."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(len(VOCABULARY), 6), nn.Embedding(LENGTH, 6)
        self.query, self.key, self.value, self.out = (nn.Linear(6, 6) for _ in range(4))
        self.norm = nn.LayerNorm(6)
        self.causal = causal

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        embedded = self.words(input_ids) + self.places(place.expand_as(input_ids))
        seen = attention_mask[:, None, :].bool()
        if self.causal:
            seen = seen & (place[:, None] >= place[None, :])
        logits = self.query(embedded) @ self.key(embedded).mT / 6**0.5
        attended = logits.masked_fill(~seen, -1e9).softmax(-1) @ self.value(embedded)
        return self.norm(embedded + self.out(attended))


class TextClassifier(nn.Module):
    """Three logits from the mean over the tokens that the mask counts."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = _Trunk(causal=False), nn.Linear(6, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (n, 3)."""
        weights = attention_mask.to(self.head.weight.dtype)[..., None]
        return self.head((self.trunk(input_ids, attention_mask) * weights).sum(1) / weights.sum(1))


class LanguageModel(nn.Module):
    """The logits of the next word at each place."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = _Trunk(causal=True), nn.Linear(6, len(VOCABULARY))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (n, LENGTH, vocabulary)."""
        return self.head(self.trunk(input_ids, attention_mask))
